"""Removing what has been kept long enough: finished jobs, and the requests that started them."""

import logging

from ..errors import WorkerError
from ..model.job import JobId
from ..ports import Clock
from .idempotency import REMEMBERED
from .registry import HeldJobs
from .retention import SETTLING, Moment
from .runner import JobRunner

_BETWEEN_REQUESTS = 600.0

log = logging.getLogger(__name__)


class Expiry:
    """Looks now and then, and removes one after the other."""

    def __init__(self, runner: JobRunner, jobs: HeldJobs, clock: Clock) -> None:
        self._runner = runner
        self._jobs = jobs
        self._clock = clock

    async def run(self) -> None:
        """Go on until cancelled."""
        began = self._jobs.moment()
        requests_due = began.boottime + SETTLING  # by when the clock has been set
        while True:
            going, rest = self._jobs.look()
            try:
                for job_id in going:
                    await self._remove(job_id)
                if self._clock.boottime() >= requests_due:
                    await self._forget_requests(began)
                    requests_due = self._clock.boottime() + _BETWEEN_REQUESTS
            except (WorkerError, OSError) as error:
                log.warning("what was kept long enough cannot be removed, which is tried again: %s", error)
            await self._clock.sleep(rest)

    async def _remove(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not self._jobs.is_in_use(job):  # others were removed before it meanwhile
            await self._runner.remove(job)

    async def _forget_requests(self, began: Moment) -> None:
        """Forget requests by whichever clock says that it is earlier."""
        moment = self._jobs.moment()
        now = min(moment.now, began.now + moment.boottime - began.boottime)
        await self._runner.journal.forget_requests(now - REMEMBERED)
