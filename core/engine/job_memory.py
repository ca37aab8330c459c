"""How much memory the requests of jobs take: a job is kept with its command, environment and labels.

A finished job older than a while can be removed to make room (retention.py). What runs, or has ended
since, cannot: it is counted here for each owner, and in total.
"""

from sys import getsizeof

from ..counts import Counts
from ..errors import QuotaExceeded
from ..model.client_id import ClientId
from ..model.job import JobId, JobSpec
from .job_bounds import JobBounds
from .retention import MAX_INTERVAL, MIN_AGE

_EACH_TEXT = 64
"""Bytes for a text besides its characters, and for its place in a tuple."""

_EACH_PAIR = 104
"""Bytes for an item of a dict."""

KEPT = MIN_AGE + MAX_INTERVAL
"""Seconds for which a job counts after its end: by then it has been removed if there are too many."""


def spec_memory(spec: JobSpec) -> int:
    """Return the bytes of memory that the texts of a job spec take at most."""
    pairs = len(spec.env) + len(spec.labels)
    named = (*spec.env, *spec.env.values(), *spec.labels, *spec.labels.values())
    texts = (spec.command, spec.working_directory, spec.name, *spec.args, *named)
    # One join, because each start waits for it. One wide character makes all of them wide: it is a maximum.
    return getsizeof("".join(texts)) + _EACH_TEXT * len(texts) + _EACH_PAIR * pairs


class JobMemory:
    """The memory of jobs that run or have ended lately."""

    def __init__(self, bounds: JobBounds) -> None:
        self._bounds = bounds
        self._owners: Counts[ClientId] = Counts()
        self._total = 0
        self._jobs: dict[JobId, tuple[ClientId, int]] = {}
        self._ended: dict[JobId, float] = {}

    def add(self, job: JobId, owner: ClientId, spec: JobSpec) -> None:
        """Count a job that runs."""
        size = spec_memory(spec)
        self._jobs[job] = owner, size
        self._owners[owner] += size
        self._total += size

    def ended(self, job: JobId, boottime: float) -> int:
        """Count a job that has ended now for KEPT seconds more; return the bytes that it takes."""
        self._ended[job] = boottime
        _, size = self._jobs[job]
        return size

    def discard(self, job: JobId) -> None:
        """Count a job no longer. Idempotent."""
        self._ended.pop(job, None)
        owner, size = self._jobs.pop(job, (None, 0))
        if owner is not None:
            self._owners.release(owner, size)
            self._total -= size

    def check_room(self, owner: ClientId, spec: JobSpec, boottime: float) -> None:
        """Raise QuotaExceeded, naming the setting, if another job of this owner would need too much."""
        self._forget(boottime)
        size = spec_memory(spec)
        own = size + sum(self._owners[each] for each in owner.on_record)
        if own > self._bounds.max_job_memory_per_client:
            raise QuotaExceeded(
                f"commands, environments and labels of the jobs of {owner.name!r} that run, or have ended "
                f"lately, would take {own} bytes; the maximum is {self._bounds.max_job_memory_per_client} "
                "(setting max_job_memory_per_client)"
            )
        if self._total + size > self._bounds.max_job_memory:
            raise QuotaExceeded(
                "commands, environments and labels of all jobs that run, or have ended lately, would take "
                f"{self._total + size} bytes; the maximum is {self._bounds.max_job_memory} "
                "(setting max_job_memory)"
            )

    def _forget(self, boottime: float) -> None:
        while self._ended:
            job, ended = next(iter(self._ended.items()))
            if boottime - ended < KEPT:
                return
            self.discard(job)
