"""Which finished jobs are kept and which expire; it has no clock of its own.

A wall clock can jump (flat battery, NTP), and a jump must not expire every job. So the age of a job is
the time that CLOCK_BOOTTIME, which never jumps, has measured since its end, but at most the time that
the wall clock shows. For a job that ended before this server started only the wall clock is available:
it expires by age no earlier than CLOCK_SETTLING seconds after the start of the server, when the wall
clock has been set.
"""

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from ..model.job import JobId

MIN_AGE = 60.0
"""Seconds for which every finished job is kept, so that clients can read its end and its output."""

CLOCK_SETTLING = 600.0
"""Seconds after the start of a server until a job of a previous server can expire by age."""

_ROOM = 16
"""A part of this size of the bound on bytes is kept free for running jobs."""

MAX_INTERVAL, MIN_INTERVAL = 60.0, 1.0
"""Bounds in seconds of the time between two checks. The maximum needs no wake-up at the end of a job,
because no job expires before MIN_AGE."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds on finished jobs: ``age`` in seconds, number of ``jobs``.

    ``bytes`` bounds the output of all jobs, running ones included; ``memory`` the bytes of the commands,
    environments and labels of finished jobs, which stay in memory.
    """

    age: float = 7 * 86400.0
    jobs: float = 10_000
    bytes: float = 10 << 30
    memory: float = 128 << 20


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by both clocks: ``now`` in seconds since 1970, ``boottime`` in seconds of CLOCK_BOOTTIME."""

    now: float
    boottime: float


@dataclass(frozen=True, slots=True)
class _Finished:
    ended_at: float
    ended_boottime: float
    size: int
    memory: int

    def age(self, moment: Moment) -> float:
        age = moment.boottime - self.ended_boottime
        if moment.now < self.ended_at:  # the wall clock was set back and cannot be used for this job
            return age
        return min(age, moment.now - self.ended_at)


class FinishedJobs:
    """The finished jobs in the order in which they ended."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._jobs: OrderedDict[JobId, _Finished] = OrderedDict()
        self._bytes = 0
        self._memory = 0
        # Running jobs wait when they reach the bound: before that, finished ones make room for them.
        self._most_bytes = retention.bytes - retention.bytes // _ROOM if retention.bytes < inf else inf

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: JobId) -> bool:
        return job in self._jobs

    @property
    def bytes(self) -> int:
        """The size of the output of all finished jobs."""
        return self._bytes

    def add(self, job: JobId, ended_at: float, size: int, moment: Moment, memory: int = 0) -> None:
        """Add a job that has ended at this moment with ``size`` bytes of output."""
        self._add(job, _Finished(ended_at, moment.boottime, size, memory))

    def add_recovered(
        self, job: JobId, ended_at: float, size: int, moment: Moment, memory: int = 0
    ) -> None:
        """Add a job that ended under a previous server, and before all jobs that were added so far."""
        age = min(max(0.0, moment.now - ended_at), max(0.0, self._retention.age - CLOCK_SETTLING))
        self._add(job, _Finished(ended_at, moment.boottime - age, size, memory))
        self._jobs.move_to_end(job, last=False)

    def discard(self, job: JobId) -> None:
        """Remove a job. Idempotent."""
        finished = self._jobs.pop(job, None)
        if finished is not None:
            self._bytes -= finished.size
            self._memory -= finished.memory

    def expired(
        self, moment: Moment, in_use: AbstractSet[JobId], running: int = 0
    ) -> tuple[list[JobId], float]:
        """Return the jobs to remove now, oldest first, and the seconds until the next check.

        A job in use does not expire and does not count, so that it displaces no other job. ``running`` is
        the size of the output of all running jobs.
        """
        used = [self._jobs[job] for job in in_use if job in self._jobs]
        number = len(self._jobs) - len(used)
        size = running + self._bytes - sum(finished.size for finished in used)
        memory = self._memory - sum(finished.memory for finished in used)
        expired: list[JobId] = []
        interval = MAX_INTERVAL
        for job, finished in self._jobs.items():
            if job in in_use:
                continue
            left = self._time_left(finished.age(moment), number, size, memory)
            if left > 0:
                interval = min(interval, left)
                break
            expired.append(job)
            number -= 1
            size -= finished.size
            memory -= finished.memory
        return expired, max(interval, MIN_INTERVAL)

    def _time_left(self, age: float, number: int, size: int, memory: int) -> float:
        """Return the seconds until the oldest of ``number`` jobs expires."""
        kept = self._retention
        if number > kept.jobs or size > self._most_bytes or memory > kept.memory:
            return MIN_AGE - age
        return max(self._retention.age, MIN_AGE) - age

    def _add(self, job: JobId, finished: _Finished) -> None:
        self.discard(job)
        self._jobs[job] = finished
        self._bytes += finished.size
        self._memory += finished.memory
