"""What the zygote of a dead supervisor holds: the positions of spools, and the masters of terminals."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ..kernel import procfs, syscalls
from ..state.history import History
from ..state.job_directory import spool_path
from ..state.layout import Layout


@dataclass(frozen=True, slots=True)
class LeftFiles:
    """Of one job: the position of its input, and the master of its terminal; None if it is not known."""

    position: int | None = None
    master: int | None = None


def left_files(
    layout: Layout, jobs: Iterable[tuple[str, History]], zygotes: Iterable[int]
) -> dict[str, LeftFiles]:
    """Return what zygotes hold of these jobs. The recorders must be dead, so that nothing moves input."""
    jobs = [(job, history) for job, history in jobs if history.start.plan.spec.stdin or _terminal(history)]
    if not jobs:
        return {}
    positions: dict[tuple[int, int], int] = {}
    masters: dict[int, int] = {}
    numbers = {_terminal(history) for _, history in jobs}
    for zygote in zygotes:
        for file in procfs.open_files(zygote):
            positions[file.inode] = file.position
            # A zygote holds a master twice if keys are typed there, and two zygotes may hold it.
            if file.terminal is not None and file.terminal in numbers - masters.keys():
                with suppress(OSError):  # Yama may refuse it: kernel.yama.ptrace_scope above 1
                    masters[file.terminal] = _duplicate(zygote, file.descriptor)
    found = {}
    for job, history in jobs:
        number = _terminal(history)
        master = None if number is None else masters.pop(number, None)
        found[job] = LeftFiles(positions.get(_inode(spool_path(layout.job(job)))), master)
    return found


def _terminal(history: History) -> int | None:
    return history.start.terminal


def _inode(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def _duplicate(process: int, descriptor: int) -> int:
    pidfd = os.pidfd_open(process)
    try:
        return syscalls.pidfd_getfd(pidfd, descriptor)
    finally:
        os.close(pidfd)
