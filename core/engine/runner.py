"""The transitions of a job in the registry: launch, update of the limits, end, removal."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ..audit.trail import AuditTrail
from ..errors import JobAlreadyFinished, JournalUnusable, LimitsUnsupported
from ..model.job import JobId, JobRecord, PastRequest
from ..model.limits import LimitBounds, ResourceLimits, ResourceUsage
from ..ports import (
    JobJournal,
    OutputStore,
    ProcessSpawner,
    ResourceLimiter,
)
from ..steps import Step, reached
from .capabilities import confidential
from .compatibility import check_placement, check_sinks
from .idempotency import fingerprint
from .job_entry import JobEntry, Launching, Running
from .registry import JobRegistry
from .tasks import Tasks

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Calls the ports in the right order; the Worker runs these coroutines in tasks of their own."""

    spawner: ProcessSpawner
    limiter: ResourceLimiter
    outputs: OutputStore
    journal: JobJournal
    limits: LimitBounds
    jobs: JobRegistry
    tasks: Tasks
    audit: AuditTrail

    def launch(self, record: JobRecord, secrets: Mapping[str, bytes]) -> JobEntry:
        """Register a job and launch it in a task; ActionRefused if it cannot get its secrets."""
        if secrets:
            confidential(self.spawner)
        launching = Launching()
        job = JobEntry(record, launching)
        self.jobs.add(job)
        launching.task = self.tasks.start(self._launch(job, launching, secrets))
        return job

    async def _launch(self, job: JobEntry, launching: Launching, secrets: Mapping[str, bytes]) -> None:
        """Journal the intent, prepare, spawn. On failure undo these steps, the newest first."""
        job_id, spec = job.record.id, job.record.spec
        undo: list[Callable[[], Awaitable[object]]] = []
        try:
            undo.append(partial(self.journal.remove, job_id))
            await self.journal.put(job.record)
            reached(Step.INTENT_JOURNALED, job_id)
            parent = await self.spawner.parent()
            scope = await self.limiter.prepare(job_id, job.record.limits, parent)
            launching.scope = scope
            reached(Step.CGROUP_MADE, job_id)
            undo.append(scope.remove)
            check_placement(self.limiter.kind, scope.placement)
            undo.append(partial(self.outputs.remove, job_id))
            sinks = await self.outputs.create(job_id, spec.channels, job.record.output_max)
            check_sinks(self.outputs.sink_kind, spec.channels, sinks)
            reached(Step.FIFO_MADE, job_id)
            spec = job.record.effective_spec
            if secrets:
                process = await confidential(self.spawner).spawn_with_secrets(
                    job_id, spec, scope.placement, sinks, secrets
                )
            else:
                process = await self.spawner.spawn(job_id, spec, scope.placement, sinks)
        except asyncio.CancelledError:
            raise  # undo nothing, as after a crash: the next Worker recovers what exists
        except BaseException:
            self.jobs.drop(job)
            for step in reversed(undo):
                await _attempt(job_id, step())
            raise
        reached(Step.STARTED, job_id)
        self.attach(job, Running(process, scope))
        self.audit.job_started(job.record)

    def attach(self, job: JobEntry, running: Running) -> None:
        """Change a job to Running, and finish it in a task when its process ends."""
        process, scope = running.process, running.scope
        job.phase = running
        job.record = replace(
            job.record,
            pid=process.pid,
            started_at=process.started_at,
            warnings=tuple(scope.warnings) if scope else (),
        )
        self.tasks.start_detached(self._finish(job, running))

    async def update(self, job: JobEntry, changes: ResourceLimits) -> None:
        """Change the limits of a running job."""
        running = job.phase
        if not isinstance(running, Running):
            raise JobAlreadyFinished
        async with running.updating:
            if job.phase is not running:
                raise JobAlreadyFinished
            if running.scope is None:
                raise LimitsUnsupported("the cgroups of this job were not found")
            before = job.record
            record = replace(before, limits=self.limits.apply_changes(before.limits, changes))
            await running.scope.update(record.limits)
            try:
                await self.journal.put(record)
            except JournalUnusable:
                await running.scope.update(before.limits)  # a rejected request changes nothing
                raise
            job.record = record

    async def remove(self, job: JobEntry) -> None:
        """Remove a finished job with its output; the journal keeps the request that started it."""
        with self.jobs.removing(job) as kept_by_spawner:
            if kept_by_spawner:
                await self.spawner.forget(job.record.id)
            await self._unjournal(job.record)
        reached(Step.UNJOURNALED, job.record.id)
        self.jobs.drop(job)
        await self.outputs.remove(job.record.id)
        reached(Step.OUTPUT_REMOVED, job.record.id)

    async def close(self) -> None:
        """Close the ports; jobs keep running."""
        for port in (self.spawner, self.outputs, self.limiter, self.journal):
            await port.close()

    async def _finish(self, job: JobEntry, running: Running) -> None:
        """Wait for the end and journal it; only then do queries and waiters see it.

        The spawner forgets the job afterwards: if this Worker dies before, the next one does it.
        """
        end = await running.process.wait()
        job_id = job.record.id
        reached(Step.END_RECEIVED, job_id)
        async with running.updating:  # a concurrent update would journal a record without the end
            usage = await _attempt(job_id, running.scope.usage()) if running.scope else None
            record = replace(job.record, end=end, usage=usage or ResourceUsage())
            self.audit.job_ended(
                record
            )  # before the journal: if this Worker dies in between, the next one repeats it
            journaled = await self._journal_end(record)
            if running.scope:  # after the usage, which is removed with it, is journaled
                job.record = replace(job.record, usage=record.usage)  # for queries until the end
                job.phase = replace(running, scope=None)
                await _attempt(job_id, running.scope.remove())
                reached(Step.CGROUP_REMOVED, job_id)
            self.jobs.finish(job, record)
        if journaled and await self._forget(job_id):
            self.jobs.forgotten(job)

    async def _journal_end(self, record: JobRecord) -> bool:
        """Return True if the end is journaled; otherwise the spawner keeps it for the next Worker."""
        try:
            await self.journal.put(record)
        except JournalUnusable as error:  # as on a full disk: no defect
            log.error("job %s: cannot journal the end, the next server does: %s", record.id, error)  # noqa: TRY400
            return False
        except Exception:
            log.exception("job %s: cannot journal the end", record.id)
            return False
        reached(Step.JOURNALED, record.id)
        return True

    async def _forget(self, job_id: JobId) -> bool:
        """Return True if the spawner has forgotten the job."""
        try:
            await self.spawner.forget(job_id)
        except Exception:
            log.exception("job %s: the spawner cannot forget it", job_id)
            return False
        reached(Step.FORGOTTEN, job_id)
        return True

    async def _unjournal(self, record: JobRecord) -> None:
        past = None
        if record.request_id:
            removed_at, mark = self.jobs.moment().now, fingerprint(record.spec)
            past = PastRequest(record.owner, record.request_id, record.id, mark, removed_at, record.issuer)
        try:
            await self.journal.remove(record.id, past)
        except JournalUnusable:  # the disk may be full: removing the output frees space
            await self.outputs.remove(record.id)
            await self.journal.remove(record.id, past)


async def _attempt(job_id: JobId, step: Awaitable[_T]) -> _T | None:
    """Run a clean-up step; if it fails, the sweep of the next recovery repeats it."""
    try:
        return await step
    except Exception:
        log.exception("job %s: clean-up step failed", job_id)
        return None
