"""Periodic removal of expired jobs and of the requests that started them."""

import asyncio
import logging
from contextlib import suppress
from typing import cast

from ..errors import WorkerError
from ..model.job import JobId
from ..ports import BoundingSpawner, Clock
from .idempotency import REQUEST_RETENTION
from .job_entry import Running
from .registry import JobRegistry
from .retention import CLOCK_SETTLING, Moment
from .runner import JobRunner

_REQUESTS_INTERVAL = 600.0

_WAITING_INTERVAL = 5.0
"""Seconds between checks while the output of a job waits."""

_BATCH = 50
"""Running jobs whose output is measured before other tasks have their turn."""

log = logging.getLogger(__name__)


class Expiry:
    """Checks periodically, and removes expired jobs one after the other."""

    def __init__(self, runner: JobRunner, jobs: JobRegistry, clock: Clock) -> None:
        self._runner = runner
        self._jobs = jobs
        self._clock = clock
        self._granted: int | None = None
        self._recorded: JobId | None = None
        self._checking = asyncio.Lock()

    async def run(self) -> None:
        """Run until cancelled."""
        began = self._jobs.moment()
        requests_due = began.boottime + CLOCK_SETTLING
        while True:
            interval = await self._check()
            try:
                if self._clock.boottime() >= requests_due:
                    await self._forget_requests(began)
                    requests_due = self._clock.boottime() + _REQUESTS_INTERVAL
            except (WorkerError, OSError) as error:
                log.warning("cannot forget old requests; retrying: %s", error)
            await self._clock.sleep(interval)

    async def make_room(self) -> None:
        """Check also when the output of jobs has grown, until none of it waits. Runs until cancelled."""
        while True:
            await self._jobs.pressure.wait()
            self._jobs.pressure.clear()
            interval = await self._check()
            while any(job.progress.output_trouble for job in self._jobs if not job.is_finished):
                await self._clock.sleep(min(interval, _WAITING_INTERVAL))
                interval = await self._check()

    async def _check(self) -> float:
        """Remove what has expired; return the seconds until the next check."""
        async with self._checking:
            expired, interval = self._jobs.expired(await self._running_bytes())
            try:
                for job_id in expired:
                    await self._remove(job_id)
                await self._grant()
            except (WorkerError, OSError) as error:
                log.warning("cannot remove expired jobs; retrying: %s", error)
            return interval

    async def _running_bytes(self) -> int:
        """Return the size of the kept output of running jobs, if a finished job may have to make room."""
        size = 0
        if not self._jobs.bounds_output or not self._jobs.any_finished:
            return size
        running = (job.record for job in self._jobs if isinstance(job.phase, Running))
        for number, record in enumerate(running):
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)  # there can be thousands of jobs
            for channel in record.spec.channels:
                with suppress(WorkerError, OSError):  # deleted, or no descriptor is free
                    extent = await self._runner.outputs.extent(record.id, channel)
                    size += extent.end - extent.first
        return size

    async def _grant(self) -> None:
        """Tell the spawner how much output running jobs may write, if it can bound that."""
        granted = self._jobs.grant()
        spawner = self._runner.spawner
        if granted != self._granted and hasattr(spawner, "bound_output"):
            await cast("BoundingSpawner", spawner).bound_output(granted, self._jobs.pressure.set)
            self._granted = granted

    async def _remove(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not self._jobs.is_in_use(job):  # may have changed while others were removed
            if job_id != self._recorded:  # a removal that failed is repeated
                self._recorded = job_id
                self._runner.audit.job_removed(job.record)
            await self._runner.remove(job)

    async def _forget_requests(self, began: Moment) -> None:
        """Forget old requests by the clock that shows the earlier time."""
        moment = self._jobs.moment()
        now = min(moment.now, began.now + moment.boottime - began.boottime)
        await self._runner.journal.forget_requests(now - REQUEST_RETENTION)
