"""The log of our processes: one event is one line, in text and in JSON."""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.linux.logs.lines import FORMATS, line

PROGRAM = """
import logging
from worker.core.steps import Step, reached
from worker.linux.logs.handler import configure
configure("server", {level!r}, {form!r})
log = logging.getLogger("worker.test")
log.info("hello %s", "a\\nb")
reached(Step.CLONED, "a-job")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
configure("server", "error", {form!r})
log.info("not logged")
reached(Step.RECORDED, "a-job")
"""


def log_of(level: str, form: str) -> list[str]:
    """Return the lines that a process logs."""
    script = PROGRAM.format(level=level, form=form)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "" == done.stdout
    return done.stderr.splitlines()


def test_text() -> None:
    """A line has the process, the level, the logger and the message; a traceback stays on its line."""
    hello, step, failed = log_of("debug", "text")
    assert hello.endswith(r" INFO worker.test: hello a\nb")
    assert " server[" in hello
    assert step.endswith(" DEBUG worker.steps: job a-job: cloned")
    assert " ERROR worker.test: failed: Traceback (most recent call last):" in failed
    assert failed.endswith("ZeroDivisionError: division by zero")


def test_json() -> None:
    """A line is an object; a step has its job as a member of its own."""
    hello, step, failed = (json.loads(each) for each in log_of("debug", "json"))
    assert ("info", "server", "worker.test", "hello a\nb") == facts(hello)
    assert ("debug", "server", "worker.steps", "job a-job: cloned") == facts(step)
    assert ("a-job", "cloned") == (step["job"], step["step"])
    assert "ZeroDivisionError" in failed["exception"]
    assert hello["time"].endswith("Z")
    assert isinstance(hello["pid"], int)


def facts(event: Mapping[str, object]) -> tuple[object, ...]:
    """Return the members that do not change from run to run."""
    return tuple(event[name] for name in ("level", "process", "logger", "message"))


def test_steps_are_logged_at_the_debug_level_only() -> None:
    """At the level info there is no line for a step."""
    assert 2 == len(log_of("info", "text"))


@pytest.mark.parametrize("form", FORMATS)
@given(message=st.text(), at=st.floats(0, 4e9))
def test_any_event_is_one_line(form: str, message: str, at: float) -> None:
    """No message can make a second line or a control character."""
    text = line("recorder", form, at=at, level="info", logger="x", message=message)
    assert text.isprintable()
    if form == "json":
        assert message == json.loads(text)["message"]


def test_a_closed_stderr_stops_no_step() -> None:
    """A step is taken, whether its line can be written or not."""
    script = PROGRAM.format(level="debug", form="text") + "print('survived')"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "survived\n" == done.stdout


def test_the_recorder_needs_no_logging() -> None:
    """``logging`` costs the recorder 0.3 MB; its lines are written without it."""
    script = "import sys; import worker.linux.recorder.__main__; print('logging' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert "False\n" == done.stdout


def test_levels_are_those_of_logging() -> None:
    """Every level has the name of one of the standard library's."""
    from worker.linux.logs.lines import LEVELS

    assert all(level.upper() in logging.getLevelNamesMapping() for level in LEVELS)
