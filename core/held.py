"""The jobs that a Worker holds, by id and by the request that started them."""

import asyncio
from collections.abc import Iterator

from .ending import Channel
from .job import JobId, JobRecord, JobState
from .ports import Process, Progress, Scope


class HeldJob:
    """A job's record and, while it is not over, what runs it."""

    __slots__ = ("launch", "over", "process", "record", "scope", "updating", "watcher")

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.launch: asyncio.Task[None] | None = None
        self.process: Process | None = None
        self.scope: Scope | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.over = asyncio.Event()
        self.updating = asyncio.Lock()

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
    """All jobs, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, HeldJob] = {}
        self._requests: dict[tuple[str, str], JobId] = {}

    def __iter__(self) -> Iterator[HeldJob]:
        """Go through the jobs that there are now; others may come and go meanwhile."""
        return iter(list(self._jobs.values()))

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._jobs

    def get(self, job_id: JobId) -> HeldJob | None:
        """Return a job, None if it is not held."""
        return self._jobs.get(job_id)

    def requested(self, owner: str, request_id: str) -> HeldJob | None:
        """Return the job that this request has started; without a request id there is none."""
        job_id = self._requests.get((owner, request_id)) if request_id else None
        return None if job_id is None else self._jobs[job_id]

    def add(self, job: HeldJob) -> None:
        """Hold a job."""
        self._jobs[job.record.id] = job
        if job.record.request_id:
            self._requests[job.record.owner, job.record.request_id] = job.record.id

    def drop(self, job: HeldJob) -> None:
        """Hold it no longer. Idempotent."""
        self._jobs.pop(job.record.id, None)
        request = job.record.owner, job.record.request_id
        if self._requests.get(request) == job.record.id:  # and not that of a later job
            del self._requests[request]
