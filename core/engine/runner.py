"""Carrying jobs through their lives over the ports: launch, change of limits, end, removal."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ..errors import JobAlreadyFinished, JournalUnusable, LimitsUnsupported
from ..model.job import JobId, JobRecord, PastRequest
from ..model.limits import LimitPolicy, ResourceLimits, ResourceUsage
from ..ports import (
    JobJournal,
    OutputStore,
    Process,
    ProcessSpawner,
    ResourceLimiter,
)
from ..steps import Step, reached
from .idempotency import fingerprint
from .registry import HeldJob, HeldJobs
from .tasks import Tasks

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Does one step of a job's life at a time; whoever calls it sees to it that the step is finished."""

    spawner: ProcessSpawner
    limiter: ResourceLimiter
    outputs: OutputStore
    journal: JobJournal
    policy: LimitPolicy
    jobs: HeldJobs
    tasks: Tasks

    async def launch(self, job: HeldJob) -> None:
        """Journal the intent, prepare, spawn. What fails is undone, newest first."""
        job_id, spec = job.record.id, job.record.spec
        undo: list[Callable[[], Awaitable[object]]] = []
        try:
            undo.append(partial(self.journal.remove, job_id))
            await self.journal.put(job.record)
            reached(Step.INTENT_JOURNALED, job_id)
            parent = await self.spawner.parent()
            job.scope = await self.limiter.prepare(job_id, job.record.limits, parent)
            reached(Step.CGROUP_MADE, job_id)
            undo.append(job.scope.remove)
            undo.append(partial(self.outputs.remove, job_id))
            sinks = await self.outputs.create(job_id, spec.channels, job.record.output_max)
            reached(Step.FIFO_MADE, job_id)
            process = await self.spawner.spawn(job_id, spec, job.scope.placement, sinks)
        except asyncio.CancelledError:
            raise  # as if this process had died: the next one learns how far it came
        except BaseException:
            self.jobs.drop(job)
            for step in reversed(undo):
                await _attempt(job_id, step())
            raise
        reached(Step.STARTED, job_id)
        job.launch = None
        self.attach(job, process)

    def attach(self, job: HeldJob, process: Process) -> None:
        """Take up a job that runs, and see it out."""
        job.process = process
        job.record = replace(
            job.record,
            pid=process.pid,
            started_at=process.started_at,
            warnings=tuple(job.scope.warnings) if job.scope else (),
        )
        self.tasks.leave(self._see_out(job, process))

    async def update(self, job: HeldJob, changes: ResourceLimits) -> None:
        """Change the limits of a job that runs."""
        if job.updating is None:
            raise JobAlreadyFinished
        async with job.updating:
            if job.process is None:
                raise JobAlreadyFinished
            if job.scope is None:
                raise LimitsUnsupported("the control groups of this job are not found")
            limits = self.policy.apply(job.record.limits.updated(changes))
            await job.scope.update(limits)
            job.record = replace(job.record, limits=limits)
            await self.journal.put(job.record)

    async def remove(self, job: HeldJob) -> None:
        """Forget a job that is over, with its output; the request that started it is remembered."""
        job.removing = True
        try:
            if job.kept_by_spawner:
                await self.spawner.forget(job.record.id)
            await self._unjournal(job.record)
        except BaseException:
            job.removing = False
            raise
        reached(Step.UNJOURNALED, job.record.id)
        self.jobs.drop(job)
        await self.outputs.remove(job.record.id)
        reached(Step.OUTPUT_REMOVED, job.record.id)

    async def close(self) -> None:
        """Let go of the ports; jobs run on."""
        for port in (self.spawner, self.outputs, self.limiter, self.journal):
            await port.close()

    async def _see_out(self, job: HeldJob, process: Process) -> None:
        """Wait for the end, then journal it before anybody is told."""
        end = await process.wait()
        reached(Step.END_HEARD, job.record.id)
        job_id = job.record.id
        assert job.updating is not None
        async with job.updating:  # an update would bring back a record without the end
            usage = await _attempt(job_id, job.scope.usage()) if job.scope else None
            record = replace(job.record, end=end, usage=usage or ResourceUsage())
            job.kept_by_spawner = not await self._journal_end(record)
            if job.scope:  # and with it the usage: journaled before
                await _attempt(job_id, job.scope.remove())
                reached(Step.CGROUP_REMOVED, job_id)
            if not job.kept_by_spawner:
                job.kept_by_spawner = not await self._forget(job_id)
            self.jobs.finish(job, record)

    async def _journal_end(self, record: JobRecord) -> bool:
        """Tell whether the end is journaled: if not, the spawner keeps it for the next Worker."""
        try:
            await self.journal.put(record)
        except Exception:
            log.exception("job %s: its end could not be journaled", record.id)
            return False
        reached(Step.JOURNALED, record.id)
        return True

    async def _forget(self, job_id: JobId) -> bool:
        """Tell whether the spawner has forgotten a job."""
        try:
            await self.spawner.forget(job_id)
        except Exception:
            log.exception("job %s: the spawner could not be told that its end is journaled", job_id)
            return False
        reached(Step.FORGOTTEN, job_id)
        return True

    async def _unjournal(self, record: JobRecord) -> None:
        past = None
        if record.request_id:
            removed_at, mark = self.jobs.moment().now, fingerprint(record.spec)
            past = PastRequest(record.owner, record.request_id, record.id, mark, removed_at)
        try:
            await self.journal.remove(record.id, past)
        except JournalUnusable:  # a full disk, perhaps: the output makes room
            await self.outputs.remove(record.id)
            await self.journal.remove(record.id, past)


async def _attempt(job_id: JobId, step: Awaitable[_T]) -> _T | None:
    """Do a step of tidying up; if it fails, the next sweep does it."""
    try:
        return await step
    except Exception:
        log.exception("job %s: could not tidy up", job_id)
        return None
