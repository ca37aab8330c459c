"""What the zygote of a dead supervisor holds: the spools of input, and the masters of terminals."""

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
    """Of one job: its spool, at the position of its input, and the master of its terminal, if known."""

    spool: int | None = None
    master: int | None = None


def left_files(
    layout: Layout, jobs: Iterable[tuple[str, History]], zygotes: Iterable[int]
) -> dict[str, LeftFiles]:
    """Return descriptors of what zygotes hold of these jobs.

    The recorders must be dead, so that nothing moves input.
    """
    spools = {
        _inode(spool_path(layout.job(job))): job for job, history in jobs if history.start.plan.spec.stdin
    }
    numbers = {history.start.terminal: job for job, history in jobs if history.start.terminal is not None}
    found_spools: dict[str, int] = {}
    found_masters: dict[str, int] = {}
    for zygote in zygotes if spools or numbers else ():
        for file in procfs.open_files(zygote):
            # A zygote holds a master twice if keys are typed there, and two zygotes may hold a file.
            job = spools.get(file.inode)
            if job is not None and job not in found_spools:
                found_spools[job] = _spool(zygote, file, spool_path(layout.job(job)))
            job = None if file.terminal is None else numbers.get(file.terminal)
            if job is not None and job not in found_masters:
                with suppress(OSError):  # Yama may refuse it: kernel.yama.ptrace_scope above 1
                    found_masters[job] = _duplicate(zygote, file.descriptor)
    return {job: LeftFiles(found_spools.get(job), found_masters.get(job)) for job, _ in jobs}


def _spool(zygote: int, file: procfs.OpenFile, path: str) -> int:
    """Return the same open file description: what another recorder does with it, the zygote knows too."""
    try:
        return _duplicate(zygote, file.descriptor)
    except OSError:  # refused by Yama, or Linux before 5.6: another description, at the same position
        spool = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.lseek(spool, file.position, os.SEEK_SET)
        return spool


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
