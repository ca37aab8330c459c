"""The jobs that a Worker holds, by id and by the request that started them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..model.ending import Channel
from ..model.job import JobId, JobRecord, JobState
from ..ports import (
    Clock,
    Process,
    Progress,
    Scope,
)
from .retention import FinishedJobs, Moment, Retention

_OVER = asyncio.Event()
_OVER.set()
# One for all that are over: thousands of them are held.


class HeldJob:
    """A job's record and, while it is not over, what runs it.

    ``kept_by_spawner``: its end is not journaled, or the spawner does not know that yet. ``removing``:
    it is there only for a repetition of the request that started it.
    """

    __slots__ = (
        "kept_by_spawner",
        "launch",
        "over",
        "process",
        "record",
        "removing",
        "scope",
        "updating",
    )

    def __init__(self, record: JobRecord) -> None:
        runs = record.end is None
        self.record = record
        self.launch: asyncio.Task[None] | None = None
        self.process: Process | None = None
        self.scope: Scope | None = None
        self.over = asyncio.Event() if runs else _OVER
        self.updating = asyncio.Lock() if runs else None
        self.kept_by_spawner = False
        self.removing = False

    @property
    def progress(self) -> Progress:
        """How far it has come, as far as is known at this moment."""
        end = self.record.end
        if end is not None:
            return Progress.at_end(end)
        return self.process.progress if self.process else Progress(JobState.STARTING)

    def final_size(self, channel: Channel) -> int | None:
        """Return how many bytes it has written in all, None while it may write more."""
        return self.record.end.output.get(channel, 0) if self.record.end else None


class HeldJobs:
    """All jobs, in the order in which they came, and which of them have to go."""

    def __init__(self, clock: Clock, retention: Retention) -> None:
        self._clock = clock
        self._jobs: dict[JobId, HeldJob] = {}
        self._requests: dict[tuple[str, str], JobId] = {}
        self._finished = FinishedJobs(retention)
        self._users: Counter[JobId] = Counter()

    def __iter__(self) -> Iterator[HeldJob]:
        """Go through the jobs that there are now; others may come and go meanwhile."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._jobs

    def get(self, job_id: JobId) -> HeldJob | None:
        """Return a job, None if it is not held or being removed."""
        job = self._jobs.get(job_id)
        return None if job is None or job.removing else job

    def requested(self, owner: str, request_id: str) -> HeldJob | None:
        """Return the job that this request has started; without a request id there is none."""
        job_id = self._requests.get((owner, request_id)) if request_id else None
        return None if job_id is None else self._jobs[job_id]

    def add(self, job: HeldJob) -> None:
        """Hold a job."""
        self._jobs[job.record.id] = job
        if job.record.request_id:
            self._requests[job.record.owner, job.record.request_id] = job.record.id

    def finish(self, job: HeldJob, record: JobRecord) -> None:
        """Note that a job is over, and tell everybody who waits for that."""
        assert record.end is not None
        job.record = record
        job.process = job.scope = job.updating = None
        job.over.set()
        job.over = _OVER
        self._finished.add(record.id, record.end.ended_at, _size(record), self.moment())

    def keep_earlier(self) -> None:
        """Count those that were over before this Worker came among the finished ones."""
        moment = self.moment()
        over = [(job.record.end.ended_at, job.record) for job in self._jobs.values() if job.record.end]
        for ended_at, record in sorted(over, key=lambda each: each[0], reverse=True):
            if record.id not in self._finished:
                self._finished.add_earlier(record.id, ended_at, _size(record), moment)

    def drop(self, job: HeldJob) -> None:
        """Hold it no longer. Idempotent."""
        self._jobs.pop(job.record.id, None)
        self._finished.discard(job.record.id)
        request = job.record.owner, job.record.request_id
        if self._requests.get(request) == job.record.id:  # and not that of a later job
            del self._requests[request]

    @contextmanager
    def in_use(self, job: HeldJob) -> Iterator[None]:
        """Keep a job for as long as somebody reads its output or waits for it."""
        job_id = job.record.id
        self._users[job_id] += 1
        try:
            yield
        finally:
            self._users[job_id] -= 1
            if not self._users[job_id]:
                del self._users[job_id]

    def is_in_use(self, job: HeldJob) -> bool:
        """Whether somebody reads its output or waits for it."""
        return job.record.id in self._users

    def look(self) -> tuple[list[JobId], float]:
        """Return the jobs that have to go now, and seconds until the next look."""
        return self._finished.look(self.moment(), self._users.keys())

    def moment(self) -> Moment:
        """Return this moment."""
        return Moment(self._clock.now(), self._clock.boottime())


def _size(record: JobRecord) -> int:
    """Return how many bytes of output are kept at most of a job that is over."""
    written = sum(record.end.output.values()) if record.end else 0
    return min(written, record.output_max) if record.output_max else written
