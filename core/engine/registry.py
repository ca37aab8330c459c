"""The registry of all jobs that a Worker knows, by job id and by the request that started them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import inf

from ..counts import Counts
from ..errors import JobNameTaken, QuotaExceeded
from ..model.client_id import ClientId
from ..model.grant import RunningJobs
from ..model.job import JobId, JobRecord, JobSpec
from ..ports import Clock
from .job_bounds import JobBounds
from .job_entry import FINISHED, REMOVING, Finished, JobEntry, Removing, Running
from .job_memory import JobMemory, spec_memory
from .job_order import JobOrder
from .references import References, owner_of
from .retention import FinishedJobs, Moment, Retention

_GROWTH = 32
"""Finished jobs may grow by this part of the bound on bytes before running jobs are told."""


CLOCK_STEP = 1.0
"""Seconds by which the wall clock may be set back without a change in the order of jobs."""


class JobRegistry:
    """All jobs in order of registration, and which of the finished ones have expired."""

    def __init__(self, clock: Clock, retention: Retention, bounds: JobBounds) -> None:
        self._clock = clock
        self._jobs: dict[JobId, JobEntry] = {}
        self._requests: dict[tuple[ClientId, str], JobId] = {}
        self.order = JobOrder()
        self.references = References()
        self._finished = FinishedJobs(retention)
        self._bytes = retention.bytes
        self._granted_bytes = 0
        self.pressure = asyncio.Event()
        """Set when the bound on the output of all jobs should be checked at once."""
        self._users: Counts[JobId] = Counts()
        self._bounds = bounds
        self._running: Counts[ClientId] = Counts()
        self._memory = JobMemory(bounds)

    def __iter__(self) -> Iterator[JobEntry]:
        """Iterate over a snapshot of the jobs; jobs may be added and removed meanwhile."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._jobs

    def get(self, job_id: JobId) -> JobEntry | None:
        """Return a job, None if it is unknown or being removed."""
        job = self._jobs.get(job_id)
        return None if job is None or isinstance(job.phase, Removing) else job

    def requested(self, owner: ClientId, request_id: str) -> JobEntry | None:
        """Return the job that this request has started, None without a request id."""
        for client in owner.on_record if request_id else ():
            if (job_id := self._requests.get((client, request_id))) is not None:
                return self._jobs[job_id]
        return None

    def creation_time(self) -> float:
        """Return the time now, for a new job: the clock may stand still, but jobs have an order."""
        now, newest = self._clock.now(), self.order.newest
        if newest is not None and now <= newest.record.created_at < now + CLOCK_STEP:
            return newest.record.created_at + 1e-6
        return now

    def check_room(self, owner: ClientId, quotas: Sequence[RunningJobs], spec: JobSpec) -> None:
        """Raise QuotaExceeded, naming the bound, if another job of this owner would be too many."""
        running = self._running.total()
        if running >= self._bounds.max_jobs:
            raise QuotaExceeded(f"{running} jobs are running, the maximum (setting max_jobs)")
        own = sum(self._running[each] for each in owner.on_record)
        if own >= self._bounds.max_jobs_per_client:
            raise QuotaExceeded(
                f"{own} jobs of {owner.name!r} are running, the maximum for one client "
                "(setting max_jobs_per_client)"
            )
        for quota in quotas:
            if own >= quota.most:
                raise QuotaExceeded(
                    f"{owner.name!r} has {own} running jobs, the maximum is {quota.most} ({quota.source})"
                )
        self._memory.check_room(owner, spec, self._clock.boottime())

    def check_name(self, owner: ClientId, name: str) -> None:
        """Raise JobNameTaken if a job of this owner with this name has not finished."""
        job = self.references.running(owner, name)
        if job is not None:
            raise JobNameTaken(job.record.id, name)

    def add(self, job: JobEntry) -> None:
        """Register a job."""
        self._jobs[job.record.id] = job
        self.order.add(job)
        self.references.add(job)
        if not job.is_finished:
            self._running[owner_of(job)] += 1
            self._memory.add(job.record.id, owner_of(job), job.record.spec)
        if job.record.request_id:
            self._requests[owner_of(job), job.record.request_id] = job.record.id

    def finish(self, job: JobEntry, record: JobRecord) -> None:
        """Change a running job to Finished and wake all that wait for it; ``record`` has the end."""
        assert record.end is not None
        assert isinstance(job.phase, Running)
        event = job.phase.finished
        self._running.release(owner_of(job))
        job.record = record
        job.phase = FINISHED[True]
        self.references.ended(job)
        event.set()
        moment = self.moment()
        memory = self._memory.ended(record.id, moment.boottime)
        self._finished.add(record.id, record.end.ended_at, _kept_size(record), moment, memory)
        if self._finished.bytes - self._granted_bytes > self._bytes // _GROWTH:
            self.pressure.set()

    @property
    def any_finished(self) -> bool:
        """Whether there is a finished job."""
        return len(self._finished) > 0

    @property
    def bounds_output(self) -> bool:
        """Whether there is a bound on the output of all jobs."""
        return self._bytes < inf

    def grant(self) -> int | None:
        """Return how many bytes the output of running jobs may take in total; None: unlimited."""
        self._granted_bytes = self._finished.bytes
        return max(0, int(self._bytes) - self._granted_bytes) if self.bounds_output else None

    def forgotten(self, job: JobEntry) -> None:
        """Note that the spawner has forgotten a finished job, unless it is being removed already."""
        if job.phase is FINISHED[True]:
            job.phase = FINISHED[False]

    @contextmanager
    def removing(self, job: JobEntry) -> Iterator[bool]:
        """Hide a finished job while it is removed, until an error; yield ``kept_by_spawner``."""
        assert isinstance(job.phase, Finished | Removing)
        kept = job.phase.kept_by_spawner
        job.phase = REMOVING[kept]
        try:
            yield kept
        except BaseException:
            job.phase = FINISHED[kept]
            raise

    def add_recovered(self) -> None:
        """Apply the retention to the jobs that finished under a previous Worker."""
        moment = self.moment()
        ends = [(job.record.end.ended_at, job.record) for job in self._jobs.values() if job.record.end]
        for ended_at, record in sorted(ends, key=lambda each: each[0], reverse=True):
            if record.id not in self._finished:
                memory = spec_memory(record.spec)
                self._finished.add_recovered(record.id, ended_at, _kept_size(record), moment, memory)

    def drop(self, job: JobEntry) -> None:
        """Remove a job from the registry. Idempotent."""
        if self._jobs.pop(job.record.id, None) is not None:
            self.order.discard(job)
            self.references.discard(job)
            if not job.is_finished:
                self._running.release(owner_of(job))
        self._finished.discard(job.record.id)
        self._memory.discard(job.record.id)
        request = owner_of(job), job.record.request_id
        if self._requests.get(request) == job.record.id:  # it may belong to a later job
            del self._requests[request]

    def in_use(self, job: JobEntry) -> AbstractContextManager[None]:
        """Keep a job from expiring while a client reads its output or waits for it."""
        return self._users.one(job.record.id)

    def is_in_use(self, job: JobEntry) -> bool:
        """Whether a client reads the output of a job or waits for it."""
        return job.record.id in self._users

    def expired(self, running: int) -> tuple[list[JobId], float]:
        """Return the jobs to remove now, and the seconds until the next check.

        ``running`` is the size of the output of all running jobs.
        """
        return self._finished.expired(self.moment(), self._users.keys(), running)

    def moment(self) -> Moment:
        """Return the time now, by both clocks."""
        return Moment(self._clock.now(), self._clock.boottime())


def _kept_size(record: JobRecord) -> int:
    """Return the largest number of bytes of output that can be kept of a finished job."""
    written = sum(record.end.output.values()) if record.end else 0
    return min(written, record.output_max) if record.output_max else written
