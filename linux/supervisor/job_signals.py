"""Signals to the main process of a job, to its other processes, or to all of them."""

import errno
import os
from collections.abc import Callable
from functools import partial

from ...core.lifecycle import Whom
from ..kernel import procfs
from .job_processes import JobProcesses, signal_processes
from .job_start import MainProcess


def end_by_signal(processes: JobProcesses, main: MainProcess, number: int, whom: Whom) -> None:
    """Send a signal that is to end processes, and continue stopped ones so that they handle it."""
    signal_processes(_recipients(processes, main, whom), number, resume=True)


def send_signal(processes: JobProcesses, main: MainProcess, number: int, whom: Whom) -> None:
    """Send a signal and do nothing else; PermissionError if a process may not be signalled."""
    if not signal_processes(_recipients(processes, main, whom), number):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def ignored_signals(main: MainProcess) -> frozenset[int]:
    """Return the signals that a main process ignores or blocks; none once it has ended."""
    return procfs.ignored_signals(main.pid) if _exists(main) else frozenset()


def _exists(main: MainProcess) -> bool:
    return main.pid > 0 and procfs.is_process(main.pid, main.start)


def _recipients(processes: JobProcesses, main: MainProcess, whom: Whom) -> Callable[[], list[int]]:
    """Return a function that lists the processes to signal at the moment of the call."""
    return partial(_list, processes, main, whom)


def _list(processes: JobProcesses, main: MainProcess, whom: Whom) -> list[int]:
    mains = {main.pid} if _exists(main) else set()
    match whom:
        case Whom.MAIN:
            return list(mains)
        case Whom.OTHERS:
            return list(set(processes.pids()) - mains)
        case Whom.ALL:  # a main process of root can have left the cgroups
            return list(mains.union(processes.pids()))
