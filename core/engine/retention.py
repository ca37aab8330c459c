"""Which finished jobs are kept, and which have to go: a pure policy, without a clock of its own.

Wall clocks jump, by a flat battery or by NTP, and a jump must not delete everything. So a job is as
old as the clock that never jumps says, and no older than the wall clock says. Of a job that ended
before this server came only the wall time is known: it is too old after a while at the earliest, when
the clock has been set.
"""

from collections import OrderedDict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ..model.job import JobId

FRESH = 60.0
"""Seconds that every job is kept: whoever waits for it learns its end and has its output."""

SETTLING = 600.0
"""Seconds of a new server before a job of an earlier one is too old for it."""

LONGEST_REST, SHORTEST_REST = 60.0, 1.0
"""Seconds between two looks. Nothing has to go within FRESH seconds of its end, so nobody announces one."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept: ``age`` in seconds, a number of ``jobs``, ``bytes`` of output in all; inf: any."""

    age: float = 7 * 86400.0
    jobs: float = 10_000
    bytes: float = 10 << 30


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by both clocks: ``now`` in seconds since 1970, ``boottime`` in those of CLOCK_BOOTTIME."""

    now: float
    boottime: float


@dataclass(frozen=True, slots=True)
class _Finished:
    ended_at: float
    ended_boottime: float
    size: int

    def age(self, moment: Moment) -> float:
        age = moment.boottime - self.ended_boottime
        if moment.now < self.ended_at:  # the wall clock was set back, and says nothing about this job
            return age
        return min(age, moment.now - self.ended_at)


class FinishedJobs:
    """The finished jobs in the order of their ends."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._jobs: OrderedDict[JobId, _Finished] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: JobId) -> bool:
        return job in self._jobs

    def add(self, job: JobId, ended_at: float, size: int, moment: Moment) -> None:
        """Take in a job whose end was learned at this moment, with so many bytes of output."""
        self._add(job, _Finished(ended_at, moment.boottime, size))

    def add_earlier(self, job: JobId, ended_at: float, size: int, moment: Moment) -> None:
        """Take in a job that ended before this server came, and before all that were taken in."""
        age = min(max(0.0, moment.now - ended_at), max(0.0, self._retention.age - SETTLING))
        self._add(job, _Finished(ended_at, moment.boottime - age, size))
        self._jobs.move_to_end(job, last=False)

    def discard(self, job: JobId) -> None:
        """Let go of a job. Idempotent."""
        finished = self._jobs.pop(job, None)
        if finished is not None:
            self._bytes -= finished.size

    def look(self, moment: Moment, in_use: AbstractSet[JobId]) -> tuple[list[JobId], float]:
        """Return the jobs that have to go now, oldest first, and seconds until the next look.

        A job in use stays and does not count, so that no other has to go in its place.
        """
        used = [self._jobs[job] for job in in_use if job in self._jobs]
        number = len(self._jobs) - len(used)
        size = self._bytes - sum(finished.size for finished in used)
        going: list[JobId] = []
        rest = LONGEST_REST
        for job, finished in self._jobs.items():
            if job in in_use:
                continue
            left = self._time_left(finished.age(moment), number, size)
            if left > 0:
                rest = min(rest, left)
                break
            going.append(job)
            number -= 1
            size -= finished.size
        return going, max(rest, SHORTEST_REST)

    def _time_left(self, age: float, number: int, size: int) -> float:
        """Return the seconds that the oldest of so many jobs may stay."""
        if number > self._retention.jobs or size > self._retention.bytes:
            return FRESH - age
        return max(self._retention.age, FRESH) - age

    def _add(self, job: JobId, finished: _Finished) -> None:
        self.discard(job)
        self._jobs[job] = finished
        self._bytes += finished.size
