"""Crash points: a test kills one of our processes, as by `kill -9`, at a step of its choice.

WORKER_CRASH_POINTS names a directory; without it no crash point is active. A file ROLE.STEP in this
directory is a crash point: the first process of that role that reaches the step unlinks the file and dies.
"""

import os
import signal
from functools import partial

from ..core.steps import Step, add_step_hook

VARIABLE = "WORKER_CRASH_POINTS"


def enable(role: str) -> None:
    """Check crash points in this process. Processes that it starts inherit the variable; jobs do not."""
    directory = os.environ.get(VARIABLE)
    if directory:
        add_step_hook(partial(_crash_if_set, directory, role))


def _crash_if_set(directory: str, role: str, step: Step, job: object) -> None:
    del job
    try:
        os.unlink(f"{directory}/{role}.{step}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
