"""Periodic removal of expired jobs and of the requests that started them."""

import logging

from ..errors import WorkerError
from ..model.job import JobId
from ..ports import Clock
from .idempotency import REQUEST_RETENTION
from .registry import JobRegistry
from .retention import CLOCK_SETTLING, Moment
from .runner import JobRunner

_REQUESTS_INTERVAL = 600.0

log = logging.getLogger(__name__)


class Expiry:
    """Checks periodically, and removes expired jobs one after the other."""

    def __init__(self, runner: JobRunner, jobs: JobRegistry, clock: Clock) -> None:
        self._runner = runner
        self._jobs = jobs
        self._clock = clock

    async def run(self) -> None:
        """Run until cancelled."""
        began = self._jobs.moment()
        requests_due = began.boottime + CLOCK_SETTLING
        while True:
            expired, interval = self._jobs.expired()
            try:
                for job_id in expired:
                    await self._remove(job_id)
                if self._clock.boottime() >= requests_due:
                    await self._forget_requests(began)
                    requests_due = self._clock.boottime() + _REQUESTS_INTERVAL
            except (WorkerError, OSError) as error:
                log.warning("cannot remove expired jobs; retrying: %s", error)
            await self._clock.sleep(interval)

    async def _remove(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not self._jobs.is_in_use(job):  # may have changed while others were removed
            await self._runner.remove(job)

    async def _forget_requests(self, began: Moment) -> None:
        """Forget old requests by the clock that shows the earlier time."""
        moment = self._jobs.moment()
        now = min(moment.now, began.now + moment.boottime - began.boottime)
        await self._runner.journal.forget_requests(now - REQUEST_RETENTION)
