"""Recovery of the jobs of a previous Worker from the journal and the spawner."""

import asyncio
import logging
from collections.abc import Collection

from ..model.job import JobId, JobRecord
from ..ports import Process
from ..steps import Step, reached
from .expiry import Expiry
from .job_entry import FINISHED, JobEntry, Running
from .runner import JobRunner

log = logging.getLogger(__name__)


class Recovery:
    """Runs once, before every other call; after a failure the next call tries again."""

    def __init__(self, runner: JobRunner, expiry: Expiry) -> None:
        self._runner = runner
        self._expiry = expiry
        self._attempt: asyncio.Task[None] | None = None

    async def complete(self) -> None:
        """Return when all jobs are recovered; safe to cancel."""
        if self._attempt is None:
            self._attempt = self._runner.tasks.start(self._recover())
            self._attempt.add_done_callback(self._attempted)
        await asyncio.shield(self._attempt)

    def _attempted(self, attempt: asyncio.Task[None]) -> None:
        if attempt.cancelled() or attempt.exception():
            self._attempt = None

    async def _recover(self) -> None:
        runner = self._runner
        processes = dict(await runner.spawner.recover())
        for record in await runner.journal.load():
            process = processes.pop(record.id, None)
            if record.id not in runner.jobs:  # an earlier attempt may have failed after this job
                await self._recover_job(record, process)
        for job_id in processes:
            log.warning("job %s has no readable journal record; leaving it alone", job_id)
        await self._sweep(unjournaled=processes.keys())
        reached(Step.RECOVERED)
        runner.jobs.add_recovered()
        runner.tasks.start_detached(self._expiry.run())
        runner.tasks.start_detached(self._expiry.make_room())

    async def _recover_job(self, record: JobRecord, process: Process | None) -> None:
        runner = self._runner
        if record.end is not None:
            runner.jobs.add(JobEntry(record, FINISHED[False]))
            if process is not None:  # the previous Worker journaled the end, then died
                scope = await runner.limiter.reopen(record.id, process.placement)
                if scope is not None:
                    await scope.remove()
                await runner.spawner.forget(record.id)
        elif process is not None:
            running = Running(process, await runner.limiter.reopen(record.id, process.placement))
            job = JobEntry(record, running)
            runner.jobs.add(job)
            runner.attach(job, running)
            runner.audit.job_recovered(job.record)
        else:
            await runner.journal.remove(record.id)  # an intent whose command never ran

    async def _sweep(self, unjournaled: Collection[JobId]) -> None:
        """Remove the scopes and the output of all jobs that are unknown to journal and spawner."""
        runner = self._runner
        jobs = list(runner.jobs)
        running = [job.record.id for job in jobs if not job.is_finished]
        await runner.limiter.sweep([*running, *unjournaled])
        unreadable = runner.journal.unreadable
        await runner.outputs.sweep([*(job.record.id for job in jobs), *unjournaled, *unreadable])
