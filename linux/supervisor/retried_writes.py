"""Writes that must reach the disk: a write that fails is retried until it succeeds."""

import logging
from collections import deque
from collections.abc import Callable

from ..ipc.event_loop import boottime
from ..state.reserve import NO_SPACE, Reserve

log = logging.getLogger(__name__)

_RETRY_INTERVAL = 1.0
"""Seconds until the next attempt."""


class RetriedWrites:
    """Writes of each job in the order of the calls; a job whose write fails delays no other job.

    On a full disk they use the reserve.
    ``retry_at``: when ``retry`` is due, None if nothing is pending.
    """

    def __init__(self, reserve: Reserve | None = None) -> None:
        self._reserve = reserve
        self._pending: dict[str, deque[Callable[[], None]]] = {}
        self._refusals: dict[str, str] = {}
        self.retry_at: float | None = None

    @property
    def pending(self) -> int:
        """How many writes are waiting to be retried."""
        return sum(map(len, self._pending.values()))

    @property
    def refusal(self) -> str:
        """Why the first pending write failed; empty if none is pending."""
        return next(iter(self._refusals.values()), "")

    def write(self, job: str, write: Callable[[], None]) -> None:
        """Write now, or as soon as the disk accepts it: a full disk must not block the life of a job."""
        queue = self._pending.setdefault(job, deque())
        queue.append(write)
        if len(queue) == 1:
            self._write_pending(job)

    def retry(self, now: float) -> None:
        """Retry the pending writes, if they are due."""
        if self.retry_at is not None and now >= self.retry_at:
            self.retry_at = None
            for job in list(self._pending):
                self._write_pending(job)

    def _write_pending(self, job: str) -> None:
        queue = self._pending[job]
        while queue:
            try:
                queue[0]()
            except FileNotFoundError:
                pass  # the job's directory was removed: its history is no longer needed
            except OSError as error:
                if error.errno in NO_SPACE and self._reserve is not None and self._reserve.release():
                    continue
                if self._refusals.get(job) != str(error):  # once, not a line per second onto a full disk
                    self._refusals[job] = str(error)
                    log.warning("job %s: cannot write or delete its files, retrying: %s", job, error)
                if self.retry_at is None:
                    self.retry_at = boottime() + _RETRY_INTERVAL
                return
            queue.popleft()
        del self._pending[job]
        self._refusals.pop(job, None)
