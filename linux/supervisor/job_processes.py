"""The processes of one job: lists them, signals and kills them, and checks whether any is left."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from ...core.ports import Placement
from ..kernel import cgroup_tree, procfs

_ROUNDS = 20


class JobProcesses(Protocol):
    """The processes of a job."""

    def pids(self) -> list[int]:
        """Return the pids of the processes that exist now."""
        ...

    def empty(self) -> bool:
        """Whether no process is left (a main process that is not reaped yet does not count)."""
        ...

    def kill(self) -> None:
        """Kill every process; processes forked meanwhile may need another call."""
        ...

    def open_events(self) -> int | None:
        """Return a descriptor that has EPOLLPRI whenever ``empty`` may have changed; None: poll instead."""
        ...


def processes_of(placement: Placement, main: int, job: str) -> JobProcesses:
    """Return the processes of the job with this placement.

    Without cgroups: those in the session of ``main``, or with the id of the job in their environment.
    """
    legacy = CgroupV1Processes(placement.legacy)
    if placement.unified:
        unified = CgroupV2Processes(placement.unified)
        return HybridProcesses(unified, legacy) if placement.legacy else unified
    return legacy if placement.legacy else SessionProcesses(main, job)


def is_empty(processes: JobProcesses) -> bool:
    """Whether no process is left; False if that cannot be checked, as without a free descriptor."""
    try:
        return processes.empty()
    except OSError:
        return False


def oom_kills(placement: Placement) -> int:
    """Return how many processes of the job the OOM killer has killed."""
    if placement.oom_events is None:
        return 0
    directory, name = os.path.split(placement.oom_events)
    if name == "memory.events":
        return _oom_kills_in(placement.oom_events)
    # Not hierarchical on v1: cgroups that the job created have counts of their own.
    return sum(_oom_kills_in(f"{group}/{name}") for group in cgroup_tree.walk(directory))


def _oom_kills_in(events: str) -> int:
    counts = dict(line.split() for line in cgroup_tree.read(events).splitlines())
    return int(counts.get("oom_kill", 0))  # v1 has the line since Linux 4.13


class CgroupV2Processes:
    """A cgroup of v2, with or without controllers."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def pids(self) -> list[int]:
        return list(_pids_in(self._directory))

    def empty(self) -> bool:
        return "populated 1" not in cgroup_tree.read(f"{self._directory}/cgroup.events")

    def kill(self) -> None:
        if not cgroup_tree.write(f"{self._directory}/cgroup.kill", "1"):  # Linux before 5.14
            signal_processes(self.pids, signal.SIGKILL)

    def open_events(self) -> int | None:
        try:
            return os.open(f"{self._directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is removed, or no descriptor is free
            return None


class CgroupV1Processes:
    """Cgroups of v1. They send no event when they become empty."""

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = directories

    def pids(self) -> list[int]:
        return list(set(self._members()))

    def empty(self) -> bool:
        return next(self._members(), None) is None

    def _members(self) -> Iterator[int]:
        for directory in self._directories:
            yield from _pids_in(directory)

    def kill(self) -> None:
        signal_processes(self.pids, signal.SIGKILL)

    def open_events(self) -> int | None:
        return None


class HybridProcesses:
    """A cgroup of v2 for tracking and killing, and those of v1 with the limits.

    A process of root can leave one of them and stay in another; systemd-run and PAM sessions do so.
    """

    def __init__(self, unified: CgroupV2Processes, legacy: CgroupV1Processes) -> None:
        self._unified = unified
        self._legacy = legacy

    def pids(self) -> list[int]:
        return list({*self._unified.pids(), *self._legacy.pids()})

    def empty(self) -> bool:
        return self._unified.empty() and self._legacy.empty()

    def kill(self) -> None:
        self._unified.kill()
        self._legacy.kill()

    def open_events(self) -> int | None:
        return self._unified.open_events()


class SessionProcesses:
    """Without cgroups: the main process's session, and processes with the job's id in their environment.

    Best effort: a process that leaves the session and clears its environment escapes.
    """

    def __init__(self, main: int, job: str) -> None:
        self._main = main
        self._marker = f"WORKER_JOB_ID={job}".encode()

    def pids(self) -> list[int]:
        return [pid for pid in procfs.pids() if self._is_member(pid)]

    def _is_member(self, pid: int) -> bool:
        stat = procfs.stat(pid)
        if stat is None or stat.state in {"Z", "X"} or pid == os.getpid():
            return False
        return self._is_marked(pid, stat)

    def _is_marked(self, pid: int, stat: procfs.Stat) -> bool:
        # Kernel threads have the session 0, and main is 0 if the main process no longer exists.
        return (self._main > 0 and stat.session == self._main) or procfs.has_variable(pid, self._marker)

    def empty(self) -> bool:
        return not self.pids()

    def kill(self) -> None:
        signal_processes(self.pids, signal.SIGKILL)

    def open_events(self) -> int | None:
        return None


class MarkedProcesses(SessionProcesses):
    """A job of which only the id is known: processes with it in their environment or cgroup path."""

    def __init__(self, job: str) -> None:
        super().__init__(0, job)
        self._name = job.encode()

    def _is_marked(self, pid: int, stat: procfs.Stat) -> bool:
        return super()._is_marked(pid, stat) or self._name in procfs.cgroups(pid)


def _pids_in(directory: str) -> Iterator[int]:
    """Yield the processes of a cgroup and of the cgroups below it, which the job created."""
    for group in cgroup_tree.walk(directory):
        try:
            text = cgroup_tree.read(f"{group}/cgroup.procs")
        except OSError:  # EOPNOTSUPP: a threaded cgroup; its processes are listed in a cgroup above
            continue
        yield from map(int, text.split())


def signal_processes(members: Callable[[], list[int]], number: int, *, resume: bool = False) -> bool:
    """Signal every member once, including those forked meanwhile; return False if one may not be signalled.

    ``resume``: continue stopped ones afterwards (SIGCONT), so that they handle the signal.

    A process with a pending signal cannot fork (fork(2) is restarted after it), so a round that finds no
    new member has found all. A process that handles the signal and keeps forking is limited by _ROUNDS.
    """
    numbers = (number, signal.SIGCONT) if resume else (number,)
    done: set[int] = set()
    permitted = True
    for _ in range(_ROUNDS):
        new = [pid for pid in members() if pid not in done]
        if not new:
            break
        permitted &= _signal_current(new, members, numbers)
        done.update(new)
    return permitted


def _signal_current(pids: list[int], members: Callable[[], list[int]], numbers: Sequence[int]) -> bool:
    """Signal these pids if they still are members: a pid may be reused before the signal is sent.

    A pidfd opened before ``members`` is read again refers to a member if the pid is still listed.
    """
    pidfds = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            pidfds[pid] = os.pidfd_open(pid)
    current = set(members())
    permitted = True
    for pid, pidfd in pidfds.items():
        try:
            for number in numbers if pid in current else ():
                signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            permitted = False
        os.close(pidfd)
    return permitted
