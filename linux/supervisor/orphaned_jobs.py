"""The jobs of supervisors that have died: found, and locked against other supervisors."""

import os
import select
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ...core.model.job import job_ids_among
from ..ipc.event_loop import boottime
from ..kernel import procfs
from ..kernel.locks import open_lock, seize_lock
from ..state.generations import known_generations, lock_of_dead
from ..state.history import (
    History,
    HistoryUnreadable,
    StartRecord,
    read_history,
)
from ..state.job_directory import history_path
from ..state.layout import Layout

_EXEC_TIMEOUT = 1.0
"""Seconds to wait for a process between clone and exec: it exits by itself if it was not released."""


@dataclass(frozen=True, slots=True)
class OrphanedJobs:
    """The jobs of dead supervisors, each with its history, and the locks of their recorders."""

    jobs: list[tuple[str, History | HistoryUnreadable]]
    recorders: list[int]

    def stop_recorders(self) -> None:
        """Stop the recorders that still record these jobs. Hold the FIFOs open before this call.

        Recorded bytes are in the files; bytes not yet recorded stay in the FIFOs.
        """
        for lock in self.recorders:
            seize_lock(lock)


@contextmanager
def orphaned_jobs(layout: Layout, generation: str, known: Container[str]) -> Iterator[OrphanedJobs]:
    """Find each job without a supervisor, except the known ones; in the context only we can adopt them."""
    with ExitStack() as locks:
        alive, recorders = _lock_dead_generations(layout, generation, locks)
        deadline = boottime() + _EXEC_TIMEOUT
        found: list[tuple[str, History | HistoryUnreadable]] = []
        for job in map(str, job_ids_among(os.listdir(layout.jobs))):
            if job in known:
                continue
            path = history_path(layout.job(job))
            try:
                history = read_history(path)
                if history is None or history.generation in alive:
                    continue
                if history.main is None and history.end is None:
                    _await_exec(history.start, deadline)
                    history = read_history(path) or history
            except HistoryUnreadable as error:
                if not alive:  # otherwise the job may belong to one of the running supervisors
                    found.append((job, error))
            else:
                found.append((job, history))
        yield OrphanedJobs(found, recorders)


def _lock_dead_generations(layout: Layout, own: str, locks: ExitStack) -> tuple[set[str], list[int]]:
    """Lock each generation without a supervisor; return the others, and the recorder locks of these."""
    alive, recorders = set(), []
    for each in known_generations(layout):
        if each == own:
            continue
        lock = lock_of_dead(layout, each)
        if lock is None:
            alive.add(each)
            continue
        locks.callback(os.close, lock)
        recorders.append(open_lock(layout.generation(each) / "recorder.lock"))
        locks.callback(os.close, recorders[-1])
    return alive, recorders


def _await_exec(record: StartRecord, deadline: float) -> None:
    """Wait until a process has executed its command or has ended; either happens soon."""
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        while _is_before_exec(record) and boottime() < deadline and not ended.poll(5):
            pass
    finally:
        os.close(pidfd)


def _is_before_exec(record: StartRecord) -> bool:
    """Whether the process still is a copy of the zygote: its command line is that of the zygote.

    Or of its supervisor: generations before the zygote cloned the supervisor itself.
    """
    if not procfs.is_process(record.pid, record.start):
        return False
    command = procfs.command_line(record.pid)
    return any(b"\0worker.linux.%b\0" % each in command for each in (b"zygote", b"supervisor"))
