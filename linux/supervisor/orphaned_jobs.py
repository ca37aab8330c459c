"""The jobs of supervisors that have died: found, and locked against other supervisors."""

import os
import select
from collections.abc import Collection, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from ...core.model.job import job_ids_among
from ..ipc.event_loop import boottime
from ..kernel import procfs
from ..kernel.locks import lock_holder, open_lock, seize_lock
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
from ..state.job_directory import history_path, spool_path
from ..state.layout import Layout

_EXEC_TIMEOUT = 1.0
"""Seconds to wait for a process between clone and exec."""


@dataclass(frozen=True, slots=True)
class OrphanedJobs:
    """The jobs of dead supervisors, each with its history, and the locks of their recorders and zygotes."""

    layout: Layout
    jobs: list[tuple[str, History | HistoryUnreadable]]
    recorders: list[int]
    zygotes: list[int]

    def stop_holders(self) -> dict[str, int]:
        """Stop the recorders and zygotes that hold FIFOs of these jobs. Hold the FIFOs before this call.

        Recorded bytes are in the files; bytes not yet recorded stay in the FIFOs. Returns the position of
        each input that a zygote knew: once its recorder is dead, nothing moves it.
        """
        for lock in self.recorders:
            seize_lock(lock)
        positions = self._positions()
        for lock in self.zygotes:
            seize_lock(lock)
        return positions

    def _positions(self) -> dict[str, int]:
        spools = {}
        for job, history in self.jobs:
            if isinstance(history, History) and history.start.plan.spec.stdin:
                with suppress(FileNotFoundError):
                    found = os.stat(spool_path(self.layout.job(job)))
                    spools[found.st_dev, found.st_ino] = job
        positions = {}
        if spools:
            for zygote in filter(None, map(lock_holder, self.zygotes)):
                for file, position in procfs.file_positions(zygote).items():
                    if file in spools:
                        positions[spools[file]] = position
        return positions


@contextmanager
def orphaned_jobs(
    layout: Layout, generation: str, known: Container[str], *, predecessor: bool
) -> Iterator[OrphanedJobs]:
    """Find each job without a supervisor, except the known ones; in the context only we can adopt them.

    ``predecessor``: recorder and zygote of our generation, if there are any, are not ours yet.
    """
    with ExitStack() as locks:
        alive, recorders, zygotes = _lock_dead_generations(layout, generation, locks)
        if predecessor:
            _lock_helpers(layout, generation, locks, recorders, zygotes)
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
        yield OrphanedJobs(layout, found, recorders, zygotes)


def _revoked(path: str, alive: Collection[str]) -> History | None:
    """End a start that a dead supervisor began; return the history if its process was recorded before."""
    generations = [generation_of_start(each) for each in provisional_histories(path)]
    # None: it may be about to be written by one of the running supervisors.
    if not any(each in alive or (alive and each is None) for each in generations):
        revoke_start(path)
    # Also if nothing was revoked: the process may have recorded itself since the caller has looked.
    return read_history(path)


def _lock_dead_generations(
    layout: Layout, own: str, locks: ExitStack
) -> tuple[set[str], list[int], list[int]]:
    """Lock each generation without a supervisor.

    Returns the other generations, and the locks of the recorders and of the zygotes that these left.
    """
    alive: set[str] = set()
    recorders: list[int] = []
    zygotes: list[int] = []
    for each in known_generations(layout):
        if each == own:
            continue
        lock = lock_of_dead(layout, each)
        if lock is None:
            alive.add(each)
            continue
        locks.callback(os.close, lock)
        _lock_helpers(layout, each, locks, recorders, zygotes)
    return alive, recorders, zygotes


def _lock_helpers(
    layout: Layout, generation: str, locks: ExitStack, recorders: list[int], zygotes: list[int]
) -> None:
    """Open the locks of the recorder and the zygote of a generation, and add them."""
    for name, found in (("recorder", recorders), ("zygote", zygotes)):
        found.append(open_lock(layout.generation(generation) / f"{name}.lock"))
        locks.callback(os.close, found[-1])


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
