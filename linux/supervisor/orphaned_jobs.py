"""The jobs of supervisors that have died: found, and locked against other supervisors."""

import os
import select
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ...core.model.job import job_ids_among
from ..ipc.event_loop import boottime
from ..kernel import procfs
from ..kernel.locks import holder_of, open_lock, seize_lock
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
from .left_files import LeftFiles, left_files

_EXEC_TIMEOUT = 1.0
"""Seconds to wait for a process between clone and exec."""


@dataclass(frozen=True, slots=True)
class OrphanedJobs:
    """The jobs of dead supervisors, each with its history, and the locks of their recorders and zygotes.

    Of the zygotes it has the paths: they are stopped when another one holds their files. That of our own
    predecessor is stopped by ours.
    """

    layout: Layout
    jobs: list[tuple[str, History | HistoryUnreadable]]
    recorders: list[int]
    zygotes: list[Path]
    zygotes_of_others: list[Path]

    def stop_recorders(self, adopted: Sequence[tuple[str, History]]) -> dict[str, LeftFiles]:
        """Stop the recorders that hold FIFOs of these jobs. Hold the FIFOs before this call.

        Recorded bytes are in the files; bytes not yet recorded stay in the FIFOs. Returns what else of the
        jobs to adopt the zygotes hold.
        """
        for lock in self.recorders:
            seize_lock(lock)
        return left_files(self.layout, adopted, filter(None, map(holder_of, self.zygotes)))


@contextmanager
def orphaned_jobs(
    layout: Layout, generation: str, known: Container[str], *, predecessor: bool
) -> Iterator[OrphanedJobs]:
    """Find each job without a supervisor, except the known ones; in the context only we can adopt them.

    ``predecessor``: recorder and zygote of our generation, if there are any, are not ours yet.
    """
    with ExitStack() as locks:
        alive, dead = _lock_dead_generations(layout, generation, locks)
        left = [*dead, *([generation] if predecessor else [])]
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
        zygotes = [layout.generation(each) / "zygote.lock" for each in left]
        recorders = _recorder_locks(layout, left, locks)
        yield OrphanedJobs(layout, found, recorders, zygotes, zygotes[: len(dead)])


def _revoked(path: str, alive: Collection[str]) -> History | None:
    """End a start that a dead supervisor began; return the history if its process was recorded before."""
    generations = [generation_of_start(each) for each in provisional_histories(path)]
    # None: it may be about to be written by one of the running supervisors.
    if not any(each in alive or (alive and each is None) for each in generations):
        revoke_start(path)
    # Also if nothing was revoked: the process may have recorded itself since the caller has looked.
    return read_history(path)


def _lock_dead_generations(layout: Layout, own: str, locks: ExitStack) -> tuple[set[str], list[str]]:
    """Lock each generation without a supervisor; return the others, and these."""
    alive: set[str] = set()
    dead = []
    for each in known_generations(layout):
        if each == own:
            continue
        lock = lock_of_dead(layout, each)
        if lock is None:
            alive.add(each)
            continue
        locks.callback(os.close, lock)
        dead.append(each)
    return alive, dead


def _recorder_locks(layout: Layout, generations: Iterable[str], locks: ExitStack) -> list[int]:
    opened = []
    for each in generations:
        opened.append(open_lock(layout.generation(each) / "recorder.lock"))
        locks.callback(os.close, opened[-1])
    return opened


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
