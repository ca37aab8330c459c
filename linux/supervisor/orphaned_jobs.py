"""The jobs of supervisors that have died: found, and locked against other supervisors."""

import os
import select
from collections.abc import Collection, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...core.model.job import job_ids_among
from ..ipc.event_loop import boottime
from ..kernel import procfs
from ..kernel.locks import open_lock, seize_lock
from ..state.generations import known_generations, lock_of_dead
from ..state.history import (
    History,
    HistoryUnreadable,
    StartRecord,
    generation_of_start,
    provisional_histories,
    read_history,
    revoke_start,
)
from ..state.job_directory import history_path
from ..state.layout import Layout

_EXEC_TIMEOUT = 1.0
"""Seconds to wait for a process between clone and exec."""


@dataclass(frozen=True, slots=True)
class OrphanedJobs:
    """The jobs of dead supervisors, each with its history, and the locks of their recorders and zygotes."""

    jobs: list[tuple[str, History | HistoryUnreadable]]
    holders: list[int]

    def stop_holders(self) -> None:
        """Stop the recorders and zygotes that hold FIFOs of these jobs. Hold the FIFOs before this call.

        Recorded bytes are in the files; bytes not yet recorded stay in the FIFOs.
        """
        for lock in self.holders:
            seize_lock(lock)


@contextmanager
def orphaned_jobs(layout: Layout, generation: str, known: Container[str]) -> Iterator[OrphanedJobs]:
    """Find each job without a supervisor, except the known ones; in the context only we can adopt them."""
    with ExitStack() as locks:
        alive, holders = _lock_dead_generations(layout, generation, locks)
        deadline = boottime() + _EXEC_TIMEOUT
        found: list[tuple[str, History | HistoryUnreadable]] = []
        for job in map(str, job_ids_among(os.listdir(layout.jobs))):
            if job in known:
                continue
            path = history_path(layout.job(job))
            try:
                history = read_history(path) or _revoked(path, alive)
                if history is None or history.generation in alive:
                    continue
                if history.main is None and history.end is None:
                    executed = _await_exec(history.start, deadline)
                    history = read_history(path) or history
                    if not executed:
                        history = replace(history, never_executed=True)
            except HistoryUnreadable as error:
                if not alive:  # otherwise the job may belong to one of the running supervisors
                    found.append((job, error))
            else:
                found.append((job, history))
        yield OrphanedJobs(found, holders)


def _revoked(path: str, alive: Collection[str]) -> History | None:
    """End a start that a dead supervisor began; return the history if its process was recorded before."""
    generations = [generation_of_start(each) for each in provisional_histories(path)]
    # None: it may be about to be written by one of the running supervisors.
    if not any(each in alive or (alive and each is None) for each in generations):
        revoke_start(path)
    # Also if nothing was revoked: the process may have recorded itself since the caller has looked.
    return read_history(path)


def _lock_dead_generations(layout: Layout, own: str, locks: ExitStack) -> tuple[set[str], list[int]]:
    """Lock each generation without a supervisor; return the others, and the locks of what these left."""
    alive, holders = set(), []
    for each in known_generations(layout):
        if each == own:
            continue
        lock = lock_of_dead(layout, each)
        if lock is None:
            alive.add(each)
            continue
        locks.callback(os.close, lock)
        for process in ("recorder", "zygote"):
            holders.append(open_lock(layout.generation(each) / f"{process}.lock"))
            locks.callback(os.close, holders[-1])
    return alive, holders


def _await_exec(record: StartRecord, deadline: float) -> bool:
    """Wait until a process has executed its command or has ended; either happens soon.

    Return False if it ended before: it was killed.
    """
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        while _is_before_exec(record):
            if ended.poll(0):  # a zombie keeps the flag; without it the process was reaped meanwhile
                return not _is_before_exec(record)
            if boottime() >= deadline:
                break
            ended.poll(5)
    finally:
        os.close(pidfd)
    return True


def _is_before_exec(record: StartRecord) -> bool:
    """Whether the process still is a copy of the zygote."""
    found = procfs.stat(record.pid)
    return found is not None and found.start == record.start and found.before_exec
