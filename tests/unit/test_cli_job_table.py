"""The table of `worker list`: it fits the terminal, and says how jobs have ended."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.terminal.job_table import JobTable, len_of_ids, result, short_time
from worker.core.model.ending import Cause, Exited, Lost, Signaled
from worker.core.model.job import JobId, JobSpec, JobStatus

from ..support.job_statuses import JOB, job

OTHER = JobId(UUID("b58476f2-94ff-445b-898d-29eeaf905a47"))
"""Its id begins as JOB does."""


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (job(None), "running"),
        (replace(job(None), paused=True), "paused"),
        (job(Exited(0)), "exited 0"),
        (job(Signaled(11)), "killed by SIGSEGV"),
        (job(Signaled(40)), "killed by signal 40"),
        (job(Signaled(15), cause=Cause.STOPPED), "stopped, killed by SIGTERM"),
        (job(Exited(3), cause=Cause.TIMED_OUT), "timed out, exited 3"),
        (job(Signaled(9), cause=Cause.OOM_KILLED), "OOM killed"),
        (job(Lost("reboot")), "lost"),
    ],
)
def test_how_a_job_has_ended(status: JobStatus, text: str) -> None:
    """The state, and of a job that has ended the reason and the code."""
    assert text == result(status)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (4.9, "4s"), (80, "1m20s"), (3600, "1h"), (7380, "2h3m"), (435600, "5d1h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """A clock that was set back makes no negative ones."""
    assert text == short_time(seconds)


def test_the_columns_line_up() -> None:
    """Each cell begins below its heading, and the command is quoted for a shell."""
    spec = JobSpec("sh", ["-c", "echo hi"], labels={"a": "b"}, name="build")
    heading, first, second = JobTable(wide=True).lines([job(None), job(Exited(3), spec)])
    columns = ["JOB", "NAME", "STATUS", "CREATED", "RAN", "PID", "OWNER", "LABELS", "COMMAND"]
    assert columns == heading.split()
    assert ["-", "build"] == [line[heading.index("NAME") :].split()[0] for line in (first, second)]
    assert second[heading.index("STATUS") :].startswith("exited 3 ")
    assert second[heading.index("RAN") :].startswith("2s ")
    assert second[heading.index("LABELS") :].startswith("a=b ")
    assert "sh -c 'echo hi'" == second[heading.index("COMMAND") :]


def test_elsewhere_ids_and_commands_are_whole() -> None:
    """A script gets everything."""
    spec = JobSpec("echo", ["x" * 300])
    _, line = JobTable().lines([job(None, spec)])
    assert line.startswith(f"{JOB}  ")
    assert line.endswith("x" * 300)


@given(width=st.integers(1, 200), size=st.integers(0, 300))
def test_a_terminal_is_not_exceeded(width: int, size: int) -> None:
    """A command that does not fit is cut; it keeps 20 characters on a terminal that is too narrow."""
    lines = JobTable(width=width).lines([job(None, JobSpec("echo", ["x" * size]))])
    fixed = lines[0].index("COMMAND")
    assert all(len(line) <= max(width, fixed + 20) for line in lines)


def test_short_ids_are_not_ambiguous() -> None:
    """They have at least 8 characters, and as many as tell the jobs of the table apart."""
    assert 8 == len_of_ids([job(None)])
    assert len("b58476f2-94f") == len_of_ids([job(None), job(None, job_id=OTHER)])


def test_later_parts_have_the_columns_of_the_first_one() -> None:
    """There is one heading."""
    table = JobTable(width=80)
    heading, _ = table.lines([job(None)])
    (later,) = table.lines([job(Exited(0))])
    assert later[heading.index("STATUS") :].startswith("exited 0")


def test_control_characters_are_escaped() -> None:
    """Those of a command, a label or an owner do not reach the terminal."""
    evil = job(None, JobSpec("echo", ["\x1b[2J\n"], labels={"a": "\x1b"}))
    lines = JobTable(wide=True).lines([replace(evil, record=replace(evil.record, owner="\x07"))])
    assert not [char for char in "".join(lines) if not char.isprintable()]
