"""Writes that must reach the disk: a write that fails is retried until it succeeds."""

import logging
from collections import deque
from collections.abc import Callable

from ..ipc.event_loop import boottime

log = logging.getLogger(__name__)

_RETRY_INTERVAL = 1.0
"""Seconds until the next attempt."""


class RetriedWrites:
    """Writes in the order of the calls. ``retry_at``: when ``retry`` is due, None if nothing is pending."""

    def __init__(self) -> None:
        self._pending: deque[Callable[[], None]] = deque()
        self.retry_at: float | None = None
        self._logged = ""

    @property
    def pending(self) -> int:
        """How many writes are waiting to be retried."""
        return len(self._pending)

    @property
    def refusal(self) -> str:
        """Why the disk refused the last write; empty if it did not."""
        return self._logged

    def write(self, write: Callable[[], None]) -> None:
        """Write now, or as soon as the disk accepts it: a full disk must not block the life of a job."""
        self._pending.append(write)
        if self.retry_at is None:
            self._write_pending()

    def retry(self, now: float) -> None:
        """Retry the pending writes, if they are due."""
        if self.retry_at is not None and now >= self.retry_at:
            self._write_pending()

    def _write_pending(self) -> None:
        self.retry_at = None
        while self._pending:
            try:
                self._pending[0]()
            except FileNotFoundError:
                pass  # the job's directory was removed: its history is no longer needed
            except OSError as error:
                if str(error) != self._logged:  # once, not a line per second onto a full disk
                    self._logged = str(error)
                    log.warning("cannot write a job's history, retrying: %s", error)
                self.retry_at = boottime() + _RETRY_INTERVAL
                return
            self._pending.popleft()
        self._logged = ""
