"""Endings from what wait(2) and waitid(2) report."""

import os
import signal

from ...core.model.ending import Ending, Exited, Signaled


def ending_of_status(status: int) -> Ending:
    """Return the ending for a wait(2) status."""
    if os.WIFSIGNALED(status):
        return Signaled(int(signal.Signals(os.WTERMSIG(status))))
    return Exited(os.WEXITSTATUS(status))


def ending_of_child(info: os.waitid_result) -> Ending:
    """Return the ending for what waitid(2) reports about a child that has ended."""
    if info.si_code == os.CLD_EXITED:
        return Exited(info.si_status)
    return Signaled(info.si_status)
