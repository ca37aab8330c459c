"""The use cases: everything that can be asked of a worker, over the ports."""

import asyncio
import signal as signals
from collections.abc import AsyncGenerator, Awaitable, Collection, Mapping
from contextlib import aclosing

from .engine import following
from .engine.defaults import MemoryJournal, SystemClock
from .engine.expiry import Expiry
from .engine.idempotency import fingerprint
from .engine.recovery import Recovery
from .engine.registry import HeldJob, HeldJobs
from .engine.retention import Retention
from .engine.runner import JobRunner
from .engine.status import status_of
from .engine.tasks import Tasks
from .errors import (
    IncompatibleAdapters,
    InvalidJobSpec,
    JobAlreadyFinished,
    JobNotFound,
    JobStillRunning,
    NoOutputKept,
    RequestIdReused,
    StopIncomplete,
)
from .model.ending import Channel
from .model.job import (
    LONGEST,
    Chunk,
    Extent,
    JobId,
    JobRecord,
    JobSpec,
    JobStatus,
    PastRequest,
    check_output_max,
    new_job_id,
)
from .model.limits import LimitPolicy, ResourceLimits
from .model.stream_start import BEGINNING, FromOffset, StreamStart
from .ports import (
    Clock,
    JobJournal,
    OutputStore,
    ProcessSpawner,
    ResourceLimiter,
)

LOOKED_AT = 50
"""Jobs that a list looks at in one go."""

LAUNCH_PATIENCE = 10.0
"""Seconds that closing waits for starts that are under way."""

STOP_MARGIN = 5.0
"""Seconds beyond the grace that Stop waits for the kernel to end what was killed."""


class Worker:
    """Starts, stops, queries and streams jobs.

    Calls may come concurrently and be cancelled at any point: what was begun for a job is
    finished all the same. After ``close`` jobs run on, and a new Worker over the same
    adapters and journal takes them up again. ``output_max`` is for jobs that do not say.
    """

    def __init__(
        self,
        *,
        spawner: ProcessSpawner,
        limiter: ResourceLimiter,
        outputs: OutputStore,
        journal: JobJournal | None = None,
        clock: Clock | None = None,
        policy: LimitPolicy | None = None,
        retention: Retention | None = None,
        output_max: int = 0,
    ) -> None:
        check_output_max(output_max)
        if limiter.kind not in spawner.accepts:
            raise IncompatibleAdapters(
                f"the spawner cannot place processes in {limiter.kind}; it can in {_names(spawner.accepts)}"
            )
        if outputs.sink_kind not in spawner.accepts_sinks:
            raise IncompatibleAdapters(
                f"the spawner cannot write to a {outputs.sink_kind} sink; "
                f"it can to {_names(spawner.accepts_sinks)}"
            )
        self._outputs = outputs
        self._clock = clock or SystemClock()
        self._policy = policy or LimitPolicy()
        self._output_max = output_max
        self._jobs = HeldJobs(self._clock, retention or Retention())
        self._tasks = Tasks()
        self._runner = JobRunner(
            spawner=spawner,
            limiter=limiter,
            outputs=outputs,
            journal=journal or MemoryJournal(),
            policy=self._policy,
            jobs=self._jobs,
            tasks=self._tasks,
        )
        self._expiry = Expiry(self._runner, self._jobs, self._clock)
        self._recovery = Recovery(self._runner, self._expiry)

    async def recover(self) -> None:
        """Take up the jobs of an earlier Worker; every other call does so first by itself."""
        await self._recovery.complete()

    async def start(self, spec: JobSpec, *, owner: str = "", request_id: str = "") -> JobId:
        """Start a job and return its id once its command has been executed.

        The same owner's same request id gives the same job, and its id for a day after it was removed.
        Raises SpawnFailed, LimitsUnsupported, LimitsRejected, RequestIdReused; nothing is left behind then.
        """
        await self.recover()
        past = await self._past_request(owner, request_id)
        if past is not None:
            if past.fingerprint != fingerprint(spec):
                raise RequestIdReused(request_id)
            return past.job
        job = self._jobs.requested(owner, request_id)
        if job is None:
            job = HeldJob(self._record(spec, owner, request_id))
            self._jobs.add(job)
            job.launch = self._tasks.start(self._runner.launch(job))
        elif job.record.spec != spec:
            raise RequestIdReused(request_id)
        if job.launch is not None:
            await asyncio.shield(job.launch)
        return job.record.id

    async def stop(
        self, job_id: JobId, *, signal: int = signals.SIGTERM, grace: float | None = None
    ) -> None:
        """End every process of a job and return when it is over; joins a stop that is under way.

        Raises JobNotFound, JobAlreadyFinished, and StopIncomplete when the kernel has not ended
        a process some seconds after SIGKILL.
        """
        if not 1 <= signal < signals.NSIG:
            raise InvalidJobSpec("signal", f"{signal} is not the number of a signal")
        if grace is not None and not 0 <= grace <= LONGEST:
            raise InvalidJobSpec("grace", f"{grace:g} s; must be 0 or more, at most 10 years")
        job = await self._find(job_id)
        if job.process is None:
            raise JobAlreadyFinished
        process = job.process
        grace = job.record.spec.grace if grace is None else grace
        await asyncio.shield(process.stop(signal, grace))
        if not await self._within(job.over.wait(), grace + STOP_MARGIN):
            left = ", ".join(f"{each.pid} in state {each.state}" for each in await process.survivors())
            if left:
                rest = f"process {left}; the killing goes on"
            elif trouble := process.progress.output_trouble:
                rest = f"the last of its output cannot be recorded: {trouble}"
            else:
                rest = "its output is still being recorded"
            raise StopIncomplete(f"Job {job_id} is not over yet: {rest}")

    async def query(self, job_id: JobId) -> JobStatus:
        """Return what is known about a job at this moment."""
        return await status_of(await self._find(job_id, started=False), self._outputs)

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job, oldest first, that carries all ``labels``; ``running``: that is not over."""
        await self.recover()
        wanted = (labels or {}).items()
        found = []
        for number, job in enumerate(self._jobs):
            if number % LOOKED_AT == LOOKED_AT - 1:
                await asyncio.sleep(0)  # there may be thousands, and others wait
            if self._jobs.get(job.record.id) is None or (running and job.over.is_set()):
                continue
            if wanted <= job.record.spec.labels.items():
                found.append(await status_of(job, self._outputs))
        return found

    async def wait(self, job_id: JobId) -> JobStatus:
        """Return the status of a job once it is over."""
        job = await self._find(job_id)
        with self._jobs.in_use(job):
            await job.over.wait()
            return await status_of(job, self._outputs)

    async def stream(
        self,
        job_id: JobId,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output from ``start`` until the job is over.

        A tail begins with an empty chunk, by whose offset one can resume; that of the next is beyond it
        where the tail reaches back before what is kept. With ``follow`` false it ends at what is there
        now. Raises OutputUnavailable when output that belongs to the job is not there.
        """
        job = await self._find(job_id)
        channel = _channel(job.record.spec, channel)
        with self._jobs.in_use(job):
            extent = await self._extent(job, channel)
            offset = await following.offset_of(self._outputs, job_id, channel, extent, start)
            if not isinstance(start, FromOffset):
                yield Chunk(offset, b"")
            if follow:
                chunks = following.follow(
                    self._outputs, job_id, channel, offset, job.over, lambda: job.final_size(channel)
                )
            else:
                chunks = following.read_to(self._outputs, job_id, channel, offset, extent.end)
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk

    async def update(self, job_id: JobId, changes: ResourceLimits) -> None:
        """Change the limits of a running job to those that ``changes`` sets; the others stay.

        Raises JobAlreadyFinished, LimitsUnsupported, LimitsRejected and InvalidJobSpec.
        """
        job = await self._find(job_id)
        await asyncio.shield(self._tasks.start(self._runner.update(job, changes)))

    async def remove(self, job_id: JobId) -> None:
        """Forget a job that is over, with its output; raise JobStillRunning if it is not."""
        job = await self._find(job_id)
        if not job.over.is_set():
            raise JobStillRunning(job_id)
        await asyncio.shield(self._tasks.start(self._runner.remove(job)))

    async def close(self) -> None:
        """Let go of everything, once the starts that are under way have come to their end; jobs run on.

        A start that takes too long is left as it is: the next Worker learns whether it came about.
        """
        launches = [job.launch for job in self._jobs if job.launch is not None]
        if launches:
            await self._within(asyncio.gather(*launches, return_exceptions=True), LAUNCH_PATIENCE)
        await self._tasks.close()
        await self._runner.close()

    async def _past_request(self, owner: str, request_id: str) -> PastRequest | None:
        """Return what is remembered of a request whose job is removed."""
        if not request_id or self._jobs.requested(owner, request_id) is not None:
            return None
        return await self._runner.journal.past_request(owner, request_id)

    def _record(self, spec: JobSpec, owner: str, request_id: str) -> JobRecord:
        return JobRecord(
            new_job_id(),
            spec,
            owner,
            request_id,
            self._clock.now(),
            limits=self._policy.apply(spec.limits),
            output_max=self._output_max if spec.output_max is None else spec.output_max,
        )

    async def _find(self, job_id: JobId, *, started: bool = True) -> HeldJob:
        """Return a job; with ``started``, one that is no longer being launched."""
        await self.recover()
        job = self._jobs.get(job_id)
        if job is not None and started and job.launch is not None:
            await asyncio.wait({job.launch})
            job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def _extent(self, job: HeldJob, channel: Channel) -> Extent:
        """Return what is kept of a job's output: nothing, if somebody has deleted it while the job runs."""
        over = job.over.is_set()
        try:
            return await self._outputs.extent(job.record.id, channel)
        except NoOutputKept:
            if over:
                raise
            return Extent(0, 0)

    async def _within(self, event: Awaitable[object], seconds: float) -> bool:
        """Whether the event comes before so many seconds have passed."""
        waiting = asyncio.ensure_future(event)
        patience = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({waiting, patience}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.done()
        finally:
            waiting.cancel()
            patience.cancel()
            await asyncio.gather(waiting, patience, return_exceptions=True)


def _channel(spec: JobSpec, asked: Channel | None) -> Channel:
    """Return the channel that is meant; stdout where output is split and nothing else is asked for."""
    if asked is None or (asked is Channel.OUTPUT and spec.split_output):
        return spec.channels[0]
    if asked not in spec.channels:
        raise InvalidJobSpec("channel", f"the job was not started with split output and has no {asked}")
    return asked


def _names(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds))
