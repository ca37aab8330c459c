"""One event of a log as one line, and the lines for the steps of jobs.

Without ``logging``, which costs 0.3 MB: a recorder logs nothing but steps.
"""

import json
import os
import time
from contextlib import suppress
from functools import partial

from ...core.model.text import printable
from ...core.steps import Step, StepHook, add_step_hook, remove_step_hook

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

DEFAULT = ("info", "text")
"""Level and format of a process before it receives others."""

_STDERR = 2

_step_hook: StepHook | None = None


def line(role: str, form: str, *, at: float, level: str, logger: str, message: str, **fields: str) -> str:
    """Return an event of the process ``role`` in one of FORMATS, without the newline.

    ``at`` in seconds since 1970; ``fields`` are members of their own in JSON: job, step, exception.
    """
    seconds, pid = time.gmtime(at) if form == "json" else time.localtime(at), os.getpid()
    milliseconds = int(at % 1 * 1000)
    if form == "json":
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', seconds)}.{milliseconds:03}Z"
        head = {"time": stamp, "level": level, "process": role, "pid": pid, "logger": logger}
        return json.dumps({**head, "message": message, **fields})
    exception = f": {fields['exception']}" if "exception" in fields else ""
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', seconds)},{milliseconds:03}"
    return printable(f"{stamp} {role}[{pid}] {level.upper()} {logger}: {message}{exception}")


def log_steps(role: str, level: str, form: str) -> None:
    """Write a line to stderr for each step that this process takes, if ``level`` is debug; else none."""
    global _step_hook  # noqa: PLW0603 - a process has one log
    if _step_hook is not None:
        remove_step_hook(_step_hook)
        _step_hook = None
    if level == "debug":
        _step_hook = partial(_write_step, role, form)
        add_step_hook(_step_hook)


def _write_step(role: str, form: str, step: Step, job: object) -> None:
    fields = {"job": str(job), "step": str(step)} if job else {"step": str(step)}
    message = f"job {job}: {step}" if job else str(step)
    text = line(role, form, at=time.time(), level="debug", logger="worker.steps", message=message, **fields)
    with suppress(OSError):  # a full disk or a closed stderr must not stop a job
        os.write(_STDERR, f"{text}\n".encode(errors="backslashreplace"))  # one write(2): lines do not mix
