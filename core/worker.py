"""The use cases: everything that can be asked of a worker, over the ports."""

import asyncio
import logging
import signal as signals
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from . import output
from .defaults import MemoryJournal, SystemClock
from .ending import Cause, Channel
from .errors import (
    IncompatibleAdapters,
    InvalidJobSpec,
    JobAlreadyFinished,
    JobNotFound,
    JobStillRunning,
    JournalUnusable,
    LimitsUnsupported,
    OutputUnavailable,
    RequestIdReused,
    StopIncomplete,
)
from .job import LONGEST, Chunk, Extent, JobId, JobRecord, JobSpec, JobState, JobStatus, new_job_id
from .limits import LimitPolicy, ResourceLimits, ResourceUsage
from .ports import (
    Clock,
    JobJournal,
    OutputStore,
    Process,
    ProcessSpawner,
    Progress,
    ResourceLimiter,
    Scope,
)

STOP_MARGIN = 5.0
"""Seconds beyond the grace that Stop waits for the kernel to end what was killed."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class _Job:
    """A job as the Worker holds it: its record and, while it is not over, what runs it."""

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
        end = self.record.end
        if end is not None:
            return Progress.at_end(end)
        return self.process.progress if self.process else Progress(JobState.STARTING)

    def final_size(self, channel: Channel) -> int | None:
        return self.record.end.output.get(channel, 0) if self.record.end else None


class Worker:
    """Starts, stops, queries and streams jobs.

    Calls may come concurrently and be cancelled at any point: what was begun for a job is
    finished all the same. After ``close`` jobs run on, and a new Worker over the same
    adapters and journal takes them up again.
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
    ) -> None:
        if limiter.kind not in spawner.accepts:
            raise IncompatibleAdapters(
                f"the spawner cannot place processes in {limiter.kind}; it can in {_names(spawner.accepts)}"
            )
        if outputs.sink_kind not in spawner.accepts_sinks:
            raise IncompatibleAdapters(
                f"the spawner cannot write to a {outputs.sink_kind} sink; "
                f"it can to {_names(spawner.accepts_sinks)}"
            )
        self._spawner = spawner
        self._limiter = limiter
        self._outputs = outputs
        self._journal = journal or MemoryJournal()
        self._clock = clock or SystemClock()
        self._policy = policy or LimitPolicy()
        self._jobs: dict[JobId, _Job] = {}
        self._requests: dict[tuple[str, str], JobId] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None

    async def recover(self) -> None:
        """Take up the jobs of an earlier Worker; every other call does so first by itself."""
        if self._recovery is None:
            self._recovery = self._spawn_task(self._recover())
            self._recovery.add_done_callback(self._recovered)
        await asyncio.shield(self._recovery)

    async def start(self, spec: JobSpec, *, owner: str = "", request_id: str = "") -> JobId:
        """Start a job and return its id once its command has been executed.

        The same owner's same request id gives the same job. Raises SpawnFailed, LimitsUnsupported,
        LimitsRejected, RequestIdReused; nothing is left behind then.
        """
        await self.recover()
        job = self._repeated(spec, owner, request_id)
        if job is None:
            now, limits = self._clock.now(), self._policy.apply(spec.limits)
            job = _Job(JobRecord(new_job_id(), spec, owner, request_id, now, limits=limits))
            self._add(job)
            job.launch = self._spawn_task(self._launch(job))
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
            rest = f"process {left}; the killing goes on" if left else "its output is still being recorded"
            raise StopIncomplete(f"Job {job_id} is not over yet: {rest}")

    async def query(self, job_id: JobId) -> JobStatus:
        """Return what is known about a job at this moment."""
        return await self._status(await self._find(job_id, started=False))

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job, oldest first, that carries all ``labels``; ``running``: that is not over."""
        await self.recover()
        wanted = (labels or {}).items()
        return [
            await self._status(job)
            for job in list(self._jobs.values())
            if wanted <= job.record.spec.labels.items() and not (running and job.over.is_set())
        ]

    async def wait(self, job_id: JobId) -> JobStatus:
        """Return the status of a job once it is over."""
        job = await self._find(job_id)
        await job.over.wait()
        return await self._status(job)

    async def stream(
        self,
        job_id: JobId,
        *,
        channel: Channel | None = None,
        offset: int = 0,
        tail_lines: int | None = None,
        tail_bytes: int | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output from ``offset``, or from a tail of it, until the job is over.

        With ``follow`` false it ends at what is there now. Raises OutputUnavailable when
        output that belongs to the job is not there.
        """
        for name, number in (("offset", offset), ("tail lines", tail_lines), ("tail bytes", tail_bytes)):
            if number is not None and number < 0:
                raise InvalidJobSpec(name, f"{number}; must be 0 or more")
        job = await self._find(job_id)
        channel = _channel(job.record.spec, channel)
        extent = await self._outputs.extent(job_id, channel)
        if tail_lines is not None:
            offset = await output.start_of_tail(self._outputs, job_id, channel, lines=tail_lines)
        elif tail_bytes is not None:
            offset = max(extent.first, extent.end - tail_bytes)
        if follow:
            chunks = output.follow(
                self._outputs, job_id, channel, offset, job.over, lambda: job.final_size(channel)
            )
        else:
            chunks = output.read_to(self._outputs, job_id, channel, offset, extent.end)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def update(self, job_id: JobId, changes: ResourceLimits) -> None:
        """Change the limits of a running job to those that ``changes`` sets; the others stay.

        Raises JobAlreadyFinished, LimitsUnsupported, LimitsRejected and InvalidJobSpec.
        """
        job = await self._find(job_id)
        await asyncio.shield(self._spawn_task(self._update(job, changes)))

    async def remove(self, job_id: JobId) -> None:
        """Forget a job that is over, with its output; raise JobStillRunning if it is not."""
        job = await self._find(job_id)
        if not job.over.is_set():
            raise JobStillRunning(job_id)
        await asyncio.shield(self._spawn_task(self._remove(job)))

    async def close(self) -> None:
        """Let go of everything, once the starts that are under way have come to their end; jobs run on."""
        launches = [job.launch for job in self._jobs.values() if job.launch is not None]
        await asyncio.gather(*launches, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for port in (self._spawner, self._outputs, self._limiter, self._journal):
            await port.close()

    # --- the life of a job, seen from here

    async def _launch(self, job: _Job) -> None:
        """Journal the intent, prepare, spawn. What fails is undone, newest first."""
        job_id, spec = job.record.id, job.record.spec
        undo: list[Callable[[], Awaitable[object]]] = []
        try:
            undo.append(partial(self._journal.remove, job_id))
            await self._journal.put(job.record)
            job.scope = await self._limiter.prepare(job_id, job.record.limits)
            undo.append(job.scope.remove)
            undo.append(partial(self._outputs.remove, job_id))
            sinks = await self._outputs.create(job_id, spec.channels)
            process = await self._spawner.spawn(job_id, spec, job.scope.placement, sinks)
        except BaseException:
            self._drop(job)
            for step in reversed(undo):
                await self._attempt(job_id, step())
            raise
        job.launch = None
        self._attach(job, process)

    def _attach(self, job: _Job, process: Process) -> None:
        job.process = process
        job.record = replace(
            job.record,
            pid=process.pid,
            started_at=process.started_at,
            warnings=tuple(job.scope.warnings) if job.scope else (),
        )
        job.watcher = self._spawn_task(self._see_out(job, process))

    async def _see_out(self, job: _Job, process: Process) -> None:
        """Wait for the end, then journal it before anybody is told."""
        end = await process.wait()
        job_id = job.record.id
        async with job.updating:  # an update would bring back a record without the end
            usage = await self._attempt(job_id, job.scope.remove()) if job.scope else None
            record = replace(job.record, end=end, usage=usage or ResourceUsage())
            try:
                await self._journal.put(record)
            except Exception:
                # The spawner still has the end, and tells it to the next Worker.
                log.exception("job %s: its end could not be journaled", job_id)
            else:
                await self._attempt(job_id, self._spawner.forget(job_id))
            job.record = record
            job.process = job.scope = job.watcher = None
            job.over.set()

    async def _remove(self, job: _Job) -> None:
        try:
            await self._journal.remove(job.record.id)
        except JournalUnusable:  # a full disk, perhaps: the output makes room
            await self._outputs.remove(job.record.id)
            await self._journal.remove(job.record.id)
        self._drop(job)
        await self._outputs.remove(job.record.id)

    async def _update(self, job: _Job, changes: ResourceLimits) -> None:
        async with job.updating:
            if job.process is None:
                raise JobAlreadyFinished
            if job.scope is None:
                raise LimitsUnsupported(
                    "the control groups of this job are not found: it was started under other settings"
                )
            limits = self._policy.apply(job.record.limits.updated(changes))
            await job.scope.update(limits)
            job.record = replace(job.record, limits=limits)
            await self._journal.put(job.record)

    async def _recover(self) -> None:
        processes = dict(await self._spawner.recover())
        for record in await self._journal.load():
            job = _Job(record)
            process = processes.pop(record.id, None)
            if record.id in self._jobs:
                continue  # taken up by an earlier try, which failed at another job
            if record.end is not None:
                job.over.set()
                self._add(job)
                if process is not None:  # journaled, but the server died before it said so
                    await self._spawner.forget(record.id)
            elif process is not None:
                job.scope = await self._limiter.reopen(record.id)
                self._add(job)
                self._attach(job, process)
            else:
                await self._journal.remove(record.id)  # an intent that never ran
        for job_id in processes:
            log.warning("job %s is not in the journal; it is left alone", job_id)
        running = [job.record.id for job in self._jobs.values() if not job.over.is_set()]
        await self._limiter.sweep([*running, *processes])
        await self._outputs.sweep([*self._jobs, *processes])

    def _recovered(self, recovery: asyncio.Task[None]) -> None:
        """Have the next call try again if it failed."""
        if recovery.cancelled() or recovery.exception():
            self._recovery = None

    # --- small parts

    def _repeated(self, spec: JobSpec, owner: str, request_id: str) -> _Job | None:
        known = self._requests.get((owner, request_id)) if request_id else None
        if known is None:
            return None
        job = self._jobs[known]
        if job.record.spec != spec:
            raise RequestIdReused(request_id)
        return job

    async def _find(self, job_id: JobId, *, started: bool = True) -> _Job:
        """Return a job; with ``started``, one that is no longer being launched."""
        await self.recover()
        job = self._jobs.get(job_id)
        if job is not None and started and job.launch is not None:
            await asyncio.wait({job.launch})
            job = self._jobs.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def _status(self, job: _Job) -> JobStatus:
        progress = job.progress
        return JobStatus(
            record=job.record,
            state=progress.state,
            ending=progress.ending,
            cause=progress.cause if progress.ending else Cause.NONE,
            usage=await job.scope.usage() if job.scope else job.record.usage,
            output=await self._extents(job),
        )

    async def _extents(self, job: _Job) -> Mapping[Channel, Extent]:
        extents = {}
        for channel in job.record.spec.channels:
            try:
                extents[channel] = await self._outputs.extent(job.record.id, channel)
            except OutputUnavailable:
                extents[channel] = Extent(0, 0)
        return extents

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

    async def _attempt(self, job_id: JobId, step: Awaitable[_T]) -> _T | None:
        """Do a step of tidying up; if it fails, the next sweep does it."""
        try:
            return await step
        except Exception:
            log.exception("job %s: could not tidy up", job_id)
            return None

    def _add(self, job: _Job) -> None:
        self._jobs[job.record.id] = job
        if job.record.request_id:
            self._requests[job.record.owner, job.record.request_id] = job.record.id

    def _drop(self, job: _Job) -> None:
        self._jobs.pop(job.record.id, None)
        request = job.record.owner, job.record.request_id
        if self._requests.get(request) == job.record.id:  # and not that of a later job
            del self._requests[request]

    def _spawn_task(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _channel(spec: JobSpec, asked: Channel | None) -> Channel:
    """Return the channel that is meant; stdout where output is split and nothing else is asked for."""
    if asked is None or (asked is Channel.OUTPUT and spec.split_output):
        return spec.channels[0]
    if asked not in spec.channels:
        raise InvalidJobSpec("channel", f"the job was not started with split output and has no {asked}")
    return asked


def _names(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds))
