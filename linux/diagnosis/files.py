"""The state of a job on disk, read from its files without asking the server or the supervisor."""

import array
import fcntl
import os
import termios
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.model.channel import Channel
from ...core.ports import AppendedFile, RecordedFifo, Sink
from ..kernel import procfs
from ..kernel.locks import lock_holder
from ..state.history import (
    History,
    HistoryUnreadable,
    provisional_histories,
    read_history,
)
from ..state.job_directory import fifo_path, history_path, segment_bases, segment_path
from ..state.layout import Layout
from ..supervisor.job_processes import processes_of
from .holders import Holder, command_of, holders_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RecordedChannel:
    """A channel of output: the kept bytes ``first`` to ``end``, and how many wait in the FIFO.

    ``in_fifo`` is None once the FIFO is removed: all output is recorded.
    """

    channel: Channel
    first: int
    end: int
    in_fifo: int | None


@dataclass(frozen=True, slots=True)
class JobProcess:
    """A process of the job: ``state`` as in proc_pid_stat(5).

    ``before_exec``: the child has not executed the command yet (PF_FORKNOEXEC).
    """

    pid: int
    state: str
    command: str
    before_exec: bool


@dataclass(frozen=True, slots=True)
class JobFiles:
    """What is on disk of a job. ``supervisor`` and ``recorder`` are pids, 0: that process does not run."""

    directory: str
    history: History | None
    history_error: str
    awaits_record: bool
    channels: tuple[RecordedChannel, ...]
    processes: tuple[JobProcess, ...]
    holders: tuple[Holder, ...]
    supervisor: int
    recorder: int


def read_files(layout: Layout, job: str) -> JobFiles | None:
    """Return what is on disk of a job, None if nothing is; OSError if it cannot be read."""
    directory = layout.job(job)
    try:
        os.stat(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    history, error = None, ""
    try:
        history = read_history(history_path(directory))
    except HistoryUnreadable as reason:
        error = str(reason)
    generation = layout.generation(history.generation) if history else None
    return JobFiles(
        directory,
        history,
        error,
        bool(provisional_histories(history_path(directory))),
        tuple(_channels(directory, history)),
        tuple(_processes(job, history)),
        tuple(holders_of(directory, _paths(history))),
        _holder(generation / "lock") if generation else 0,
        _holder(generation / "recorder.lock") if generation else 0,
    )


def _channels(directory: str, history: History | None) -> list[RecordedChannel]:
    """Return the channels that the history names; without one, those of the store ``recorder``."""
    sinks: Mapping[Channel, Sink] = (
        history.start.plan.sinks
        if history
        else {channel: RecordedFifo(fifo_path(directory, channel), directory, 1) for channel in Channel}
    )
    found = []
    for channel, sink in sinks.items():
        with suppress(FileNotFoundError):  # deleted, or never created
            match sink:
                case RecordedFifo(path, segments):
                    found += _recorded(channel, path, segments)
                case AppendedFile(path, start):
                    size = os.stat(path).st_size - start
                    found.append(RecordedChannel(channel, 0, size, None))
    return found


def _recorded(channel: Channel, fifo: str, directory: str) -> list[RecordedChannel]:
    bases = segment_bases(directory, channel)
    if not bases:
        return []
    size = os.stat(segment_path(directory, channel, bases[-1])).st_size
    return [RecordedChannel(channel, bases[0], bases[-1] + size, _bytes_in(fifo))]


def _paths(history: History | None) -> set[str]:
    """Return the FIFOs and files that another store than ``recorder`` may have made anywhere."""
    sinks = history.start.plan.sinks.values() if history else ()
    return {sink.path for sink in sinks if isinstance(sink, (RecordedFifo, AppendedFile))}


def _bytes_in(fifo: str) -> int | None:
    """Return how many bytes wait in a FIFO, None if it is removed.

    The extra reader changes nothing: if no other process holds the FIFO open, it is empty.
    """
    try:
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        count = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, count)
    finally:
        os.close(fd)
    return count[0]


def _processes(job: str, history: History | None) -> list[JobProcess]:
    if history is None:
        return []
    record = history.start
    main = record.pid if procfs.is_process(record.pid, record.start) else 0
    members = processes_of(record.plan.placement, main, job)
    found = []
    for pid in sorted(members.pids()):
        stat = procfs.stat(pid)
        if stat is not None:
            found.append(JobProcess(pid, stat.state, command_of(pid), before_exec=stat.before_exec))
    return found


def _holder(lock: Path) -> int:
    """Return the pid that holds a lock; 0 if none does, or the file is not there."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)  # the file system may be read-only
    except FileNotFoundError:
        return 0
    try:
        return lock_holder(fd)
    finally:
        os.close(fd)
