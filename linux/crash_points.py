"""Fuses: a test has a process of ours die, as by `kill -9`, at a step of its choice.

WORKER_FUSES names a directory; without it nothing is armed. A file ROLE.STEP in there is a fuse
that is lit: the first process of that role that reaches the step takes it away and dies.
"""

import os
import signal
from functools import partial

from ..core.steps import Step, on_step

VARIABLE = "WORKER_FUSES"


def arm(role: str) -> None:
    """Arm this process, and by inheritance of the variable those that it starts; jobs do not inherit it."""
    directory = os.environ.get(VARIABLE)
    if directory:
        on_step(partial(_burn, directory, role))


def _burn(directory: str, role: str, step: Step, job: object) -> None:
    del job
    try:
        os.unlink(f"{directory}/{role}.{step}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
