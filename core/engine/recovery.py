"""Taking up the jobs of an earlier Worker: what the journal says, and what the spawner knows."""

import asyncio
import logging

from ..steps import Step, reached
from .expiry import Expiry
from .registry import HeldJob
from .runner import JobRunner

log = logging.getLogger(__name__)


class Recovery:
    """It happens once, before anything else; after a failure the next call tries again."""

    def __init__(self, runner: JobRunner, expiry: Expiry) -> None:
        self._runner = runner
        self._expiry = expiry
        self._attempt: asyncio.Task[None] | None = None

    async def complete(self) -> None:
        """Return when all jobs are taken up; safe to cancel."""
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
            job = HeldJob(record)
            process = processes.pop(record.id, None)
            if record.id in runner.jobs:
                continue  # taken up by an earlier try, which failed at another job
            if record.end is not None:
                runner.jobs.add(job)
                if process is not None:  # journaled, but the server died before it said so
                    left = await runner.limiter.reopen(record.id, process.placement)
                    if left is not None:
                        await left.remove()
                    await runner.spawner.forget(record.id)
            elif process is not None:
                job.scope = await runner.limiter.reopen(record.id, process.placement)
                runner.jobs.add(job)
                runner.attach(job, process)
            else:
                await runner.journal.remove(record.id)  # an intent that never ran
        for job_id in processes:
            log.warning("job %s is not in the journal, or not readable there; it is left alone", job_id)
        held = list(runner.jobs)
        running = [job.record.id for job in held if not job.over.is_set()]
        await runner.limiter.sweep([*running, *processes])
        aside = runner.journal.unreadable
        await runner.outputs.sweep([*(job.record.id for job in held), *processes, *aside])
        reached(Step.RECOVERED)
        runner.jobs.keep_earlier()
        runner.tasks.leave(self._expiry.run())
