"""Worker: the use cases, from the start of a job to its removal, on top of the ports."""

import asyncio
import signal as signals
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType

from .audit.trail import AuditTrail
from .engine.capabilities import check_executes_exactly, interactive, pausable, resizable, signalable
from .engine.compatibility import check_adapters
from .engine.defaults import MemoryJournal, SystemClock
from .engine.expiry import Expiry
from .engine.following import Room, any_room
from .engine.idempotency import fingerprint
from .engine.job_bounds import JobBounds
from .engine.job_entry import JobEntry, Launching, Running
from .engine.job_input import InputWriters, JobInput, check_resumed
from .engine.job_order import position
from .engine.job_settings import JobSettings
from .engine.output_stream import begin_stream
from .engine.recovery import Recovery
from .engine.registry import JobRegistry
from .engine.retention import Retention
from .engine.runner import JobRunner
from .engine.status import status_of
from .engine.tasks import Tasks
from .engine.waiting import occurs_before
from .errors import (
    ActionRefused,
    InvalidJobSpec,
    JobAlreadyFinished,
    JobNotFound,
    JobStillRunning,
    JobUnreadable,
    RequestIdReused,
    SpawnerUnavailable,
    StopIncomplete,
)
from .model.client_id import ClientId
from .model.ending import Channel, End
from .model.grant import NO_GRANT, Grant
from .model.job import (
    LONGEST_DURATION,
    Chunk,
    JobId,
    JobRecord,
    JobSpec,
    JobStatus,
    PastRequest,
)
from .model.limits import LimitBounds, ResourceLimits
from .model.secrets import check_secrets
from .model.selection import EVERY_JOB, JobSelection, Position
from .model.stream_start import BEGINNING, StreamStart
from .model.stream_times import ANY_TIME, StreamTimes
from .model.terminal import WindowSize
from .ports import (
    Clock,
    JobJournal,
    OutputStore,
    ProcessSpawner,
    ResourceLimiter,
)

LIST_BATCH = 50
"""Jobs that ``jobs`` examines before it yields to other tasks."""

LAUNCH_TIMEOUT = 10.0
"""Seconds that ``close`` waits for running launches."""

STOP_MARGIN = 5.0
"""Seconds after the grace period that ``stop`` waits for the killed processes to end."""


class Worker:
    """Starts, stops, queries and streams jobs.

    Concurrent calls are safe, and so is the cancellation of a call at any point: an operation on a job
    that has begun is completed. After ``close`` jobs keep running; a new Worker with the same adapters
    and journal recovers them. ``output_max`` and ``default_user`` apply to job specs without one,
    ``signal_all`` to all.
    """

    def __init__(
        self,
        *,
        spawner: ProcessSpawner,
        limiter: ResourceLimiter,
        outputs: OutputStore,
        journal: JobJournal | None = None,
        clock: Clock | None = None,
        limits: LimitBounds | None = None,
        retention: Retention | None = None,
        output_max: int = 0,
        signal_all: bool = False,
        audit: AuditTrail | None = None,
        bounds: JobBounds | None = None,
        default_user: str | None = None,
    ) -> None:
        check_adapters(spawner, limiter, outputs)
        self._outputs = outputs
        self._clock = clock or SystemClock()
        self._settings = JobSettings(limits or LimitBounds(), output_max, signal_all, default_user)
        self._jobs = JobRegistry(self._clock, retention or Retention(), bounds or JobBounds())
        self._tasks = Tasks()
        self._input_writers = InputWriters()
        self._runner = JobRunner(
            spawner=spawner,
            limiter=limiter,
            outputs=outputs,
            journal=journal or MemoryJournal(),
            limits=self._settings.limits,
            jobs=self._jobs,
            tasks=self._tasks,
            audit=audit or AuditTrail(),
        )
        self._expiry = Expiry(self._runner, self._jobs, self._clock)
        self._recovery = Recovery(self._runner, self._expiry)

    async def recover(self) -> None:
        """Recover the jobs of a previous Worker; every other call does this first."""
        await self._recovery.complete()

    async def start(
        self,
        spec: JobSpec,
        *,
        owner: str = "",
        issuer: str | None = None,
        request_id: str = "",
        secrets: Mapping[str, bytes] = MappingProxyType({}),
        grant: Grant = NO_GRANT,
    ) -> JobId:
        """Start a job and return its id once its command has been executed.

        ``secrets`` are passed to the job as files, and are part of no record (SecretSpawner).
        A request id that its owner has already used returns the id of the same job, until a day after
        the removal of that job. ``issuer`` is that of the owner's certificate: another one makes another
        owner. On an error (SpawnFailed, LimitsUnsupported, LimitsRejected, QuotaExceeded, RequestIdReused,
        JobNameTaken and others) nothing is left behind.
        """
        check_secrets(secrets)
        client = ClientId(owner, issuer)
        await self.recover()
        past = await self._past_request(client, request_id)
        if past is not None:
            if past.fingerprint != fingerprint(spec):
                raise RequestIdReused(request_id)
            return past.job
        job = self._jobs.requested(client, request_id)
        if job is None:
            self._jobs.check_name(client, spec.name)
            self._jobs.check_room(client, grant.quotas, spec)
            if grant.execution is not None:
                check_executes_exactly(self._runner.spawner)
            record = self._settings.record(spec, client, request_id, self._jobs.creation_time(), grant)
            job = self._runner.launch(record, secrets)
        elif fingerprint(job.record.spec) != fingerprint(spec):
            raise RequestIdReused(request_id)
        if isinstance(job.phase, Launching):
            await asyncio.shield(job.phase.task)
        return job.record.id

    async def stop(
        self,
        job_id: JobId,
        *,
        signal: int | None = None,
        grace: float | None = None,
        signal_all: bool = False,
    ) -> End:
        """End every process of a job, and return its end when it has finished; joins a running stop.

        The main process gets the signal first, by default JobSpec.stop_signal, and the others when it has
        ended or after half of the grace period (core/termination.py); ``signal_all``: all at once. SIGKILL
        follows after ``grace`` seconds.
        It does not wait for a full disk: ``End.missing`` is what could not be recorded of the output.
        Raises JobNotFound, JobAlreadyFinished, and StopIncomplete if the job has not finished some
        seconds after SIGKILL.
        """
        if signal is not None:
            _check_signal(signal)
        if grace is not None and not 0 <= grace <= LONGEST_DURATION:
            raise InvalidJobSpec("grace", f"{grace:g} s; must be 0 or more, at most 10 years")
        job, running = await self._find_running(job_id)
        process = running.process
        signal = job.record.spec.stop_signal if signal is None else signal
        grace = job.record.spec.grace if grace is None else grace
        if signal_all and not job.record.signal_all:
            stop = signalable(process).stop(signal, grace, signal_all=True)
        else:
            stop = process.stop(signal, grace)
        await asyncio.shield(stop)
        if not await occurs_before(running.finished.wait(), self._clock.sleep(grace + STOP_MARGIN)):
            raise StopIncomplete(f"Job {job_id} has not finished yet: {await running.why_unfinished()}")
        assert job.record.end is not None
        return job.record.end

    async def signal(self, job_id: JobId, signal: int, *, all_processes: bool = False) -> None:
        """Send a signal to the main process of a job, or to all of its processes, and do nothing else.

        Raises JobNotFound, JobAlreadyFinished, also if only the main process has ended and not all are
        to be signalled, and ActionRefused. It is unknown whether the signal was sent if this raises
        SpawnerUnavailable.
        """
        _check_signal(signal)
        _, running = await self._find_running(job_id)
        if running.process.progress.ending is not None and not all_processes:
            raise JobAlreadyFinished
        process = signalable(running.process)
        await asyncio.shield(process.signal(signal, all_processes=all_processes))

    async def pause(self, job_id: JobId) -> None:
        """Freeze every process of a job; its timeout counts meanwhile, and a stop thaws it. Idempotent.

        Raises JobNotFound, JobAlreadyFinished, and ActionRefused if the host cannot freeze processes or
        if the job is being stopped.
        """
        _, running = await self._find_running(job_id)
        await asyncio.shield(pausable(running.process).pause())

    async def resume(self, job_id: JobId) -> None:
        """Let the processes of a paused job continue. Idempotent; raises as ``pause`` does."""
        _, running = await self._find_running(job_id)
        await asyncio.shield(pausable(running.process).resume())

    async def resize(self, job_id: JobId, size: WindowSize) -> None:
        """Change the size of a job's terminal. Idempotent.

        Raises JobNotFound, JobAlreadyFinished, and ActionRefused if the job has no terminal.
        """
        job, running = await self._find_running(job_id)
        if job.record.spec.terminal is None:
            raise ActionRefused(f"job {job_id} has no terminal")
        await asyncio.shield(resizable(running.process).resize(size))

    async def record(self, job_id: JobId) -> JobRecord:
        """Return the record of a job; raises JobNotFound."""
        return (await self._find(job_id, started=False)).record

    async def resolve(
        self,
        reference: str,
        *,
        owner: str = "",
        issuer: str | None = None,
        visible: Callable[[JobRecord], bool] | None = None,
    ) -> JobId:
        """Return the id of the job that a client refers to.

        That is the first of these that there is: an id, also of an unknown job; ``@last``, the latest job
        of this owner; a name, of a job of this owner, then of the only other owner that has one; the
        beginning of an id, 4 or more hexadecimal digits. Of several jobs of an owner with a name it is the
        one that has not finished, otherwise the latest. A job that is not ``visible`` is found only by its
        id. Raises JobNotFound and AmbiguousJob.
        """
        await self.recover()
        return self._jobs.references.resolve(reference, ClientId(owner, issuer), visible)

    async def query(self, job_id: JobId) -> JobStatus:
        """Return the current status of a job."""
        return await status_of(await self._find(job_id, started=False), self._outputs)

    async def list(
        self, selection: JobSelection = EVERY_JOB, *, newest_first: bool = False
    ) -> list[JobStatus]:
        """Return the jobs of a selection, as ``jobs`` yields them."""
        return [status async for status in self.jobs(selection, newest_first=newest_first)]

    async def jobs(
        self,
        selection: JobSelection = EVERY_JOB,
        *,
        newest_first: bool = False,
        after: Position | None = None,
        pause: Callable[[], Awaitable[None]] | None = None,
        visible: Callable[[JobRecord], bool] | None = None,
    ) -> AsyncGenerator[JobStatus, None]:
        """Yield the jobs of a selection in the order of their creation, or in the reverse order.

        It begins behind the place ``after``; the place of a job is that of its ``record``. Each job is
        yielded once, whatever is started and removed meanwhile; those that are started meanwhile are left
        out.
        ``pause`` is awaited between some jobs and the next; by default, other tasks run meanwhile.
        ``visible`` decides about each job whether it exists.
        """
        await self.recover()
        order = self._jobs.order
        newest = order.newest
        end = None if newest is None or newest_first else position(newest)
        place = after
        while batch := order.after(place, LIST_BATCH, newest_first=newest_first):
            for job in batch:
                if end is not None and position(job) > end:
                    return
                if self._jobs.get(job.record.id) is not job:
                    continue
                if selection.includes(job.record) and (visible is None or visible(job.record)):
                    yield await status_of(job, self._outputs)
            place = position(batch[-1])
            await (asyncio.sleep(0) if pause is None else pause())  # there can be thousands of jobs

    async def wait(self, job_id: JobId) -> JobStatus:
        """Return the status of a job once it has finished."""
        job = await self._find(job_id)
        with self._jobs.in_use(job):
            await job.wait_finished()
            return await status_of(job, self._outputs)

    async def stream(
        self,
        job_id: JobId,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
        room: Room = any_room,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output from ``start`` until the job has finished.

        A tail begins with an empty chunk, whose offset a client can resume from; the offset of the next
        chunk is larger if the tail begins before the kept range. A time to begin at applies in addition to
        ``start``, and is resolved like a tail if there is output of that time. With ``follow`` false the
        stream ends at the current end of the output. ``room`` bounds each chunk. Raises OutputUnavailable
        if output of the job is missing, and TimesNotKept if ``times`` needs times that are not known.
        """
        job = await self._find(job_id)
        with self._jobs.in_use(job):
            first, chunks = await begin_stream(
                job,
                self._outputs,
                self._clock,
                channel=channel,
                start=start,
                follows=follow,
                times=times,
                room=room,
            )
            if first is not None:
                yield first
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
                    del chunk

    @asynccontextmanager
    async def attach_input(
        self, job_id: JobId, session: str = "", *, resumes: bool = False
    ) -> AsyncIterator[JobInput]:
        """Be the only one that writes to the stdin of a job, in the context.

        ``session`` is a text that only the caller knows: with the same one again, it continues after a lost
        connection. Raises JobNotFound, JobAlreadyFinished, ActionRefused if the job has no input,
        InputTaken if another session writes, and, if the session ``resumes``, InputInterrupted if another
        one has written or ended the input.
        """
        job = await self._find(job_id)
        if resumes:
            check_resumed(job, session)
        if not isinstance(job.phase, Running):
            raise JobAlreadyFinished
        if not job.record.spec.stdin:
            raise ActionRefused(f"job {job_id} was started without an open stdin (option -i)")
        process = interactive(job.phase.process)
        async with self._input_writers.taken(job, process, session, resumes=resumes) as writer:
            yield writer

    async def update(self, job_id: JobId, changes: ResourceLimits) -> None:
        """Set the limits of a running job that ``changes`` contains, and keep the others.

        Raises JobAlreadyFinished, LimitsUnsupported, LimitsRejected and InvalidJobSpec.
        """
        job = await self._find(job_id)
        await asyncio.shield(self._tasks.start(self._runner.update(job, changes)))

    async def remove(self, job_id: JobId) -> None:
        """Remove a finished job and its output; raise JobStillRunning for any other job."""
        job = await self._find(job_id)
        if not job.is_finished:
            raise JobStillRunning(job_id)
        await asyncio.shield(self._tasks.start(self._runner.remove(job)))

    async def close(self) -> None:
        """Wait for running launches, then end all tasks and close the ports; jobs keep running.

        A launch that takes longer than LAUNCH_TIMEOUT is cancelled: the next Worker recovers its outcome.
        """
        launches = [job.phase.task for job in self._jobs if isinstance(job.phase, Launching)]
        if launches:
            ended = asyncio.gather(*launches, return_exceptions=True)
            await occurs_before(ended, self._clock.sleep(LAUNCH_TIMEOUT))
        await self._tasks.close()
        await self._runner.close()

    async def _past_request(self, owner: ClientId, request_id: str) -> PastRequest | None:
        """Return the journaled request of a removed job."""
        if not request_id or self._jobs.requested(owner, request_id) is not None:
            return None
        return await self._runner.journal.past_request(owner, request_id)

    async def _find(self, job_id: JobId, *, started: bool = True) -> JobEntry:
        """Return a job; with ``started``, wait until it has been launched."""
        await self.recover()
        job = self._jobs.get(job_id)
        if job is not None and started and isinstance(job.phase, Launching):
            await asyncio.wait({job.phase.task})
            job = self._jobs.get(job_id)
            if job is not None and isinstance(job.phase, Launching):
                raise SpawnerUnavailable(f"the worker was closed while it started job {job_id}")
        if job is None and job_id in self._runner.journal.unreadable:
            raise JobUnreadable(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def _find_running(self, job_id: JobId) -> tuple[JobEntry, Running]:
        """Return a job and its process; raise JobAlreadyFinished if it has none."""
        job = await self._find(job_id)
        if not isinstance(job.phase, Running):
            raise JobAlreadyFinished
        return job, job.phase


def _check_signal(number: int) -> None:
    if not 1 <= number < signals.NSIG:
        raise InvalidJobSpec("signal", f"{number} is not a signal number")
