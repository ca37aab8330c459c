"""What has to be written down, whatever the disk says: what it refuses is tried again."""

import logging
from collections import deque
from collections.abc import Callable

from ..ipc.event_loop import boottime

log = logging.getLogger(__name__)

_AGAIN = 1.0
"""Seconds until another try."""


class RetriedWrites:
    """Writes in the order of the calls. ``retry_at`` is when ``retry`` is due, None: all is written."""

    def __init__(self) -> None:
        self._unwritten: deque[Callable[[], None]] = deque()
        self.retry_at: float | None = None
        self._refused = ""

    def write(self, note: Callable[[], None]) -> None:
        """Write now, or when the disk takes it again: its trouble must not stop the life of a job."""
        self._unwritten.append(note)
        if self.retry_at is None:
            self._write_all()

    def retry(self, now: float) -> None:
        """Write what could not be written, if it is time."""
        if self.retry_at is not None and now >= self.retry_at:
            self._write_all()

    def _write_all(self) -> None:
        self.retry_at = None
        while self._unwritten:
            try:
                self._unwritten[0]()
            except FileNotFoundError:
                pass  # the job's directory is gone, and with it the need
            except OSError as error:
                if str(error) != self._refused:  # once, and not a line a second onto a full disk
                    self._refused = str(error)
                    log.warning("what became of a job cannot be written down yet: %s", error)
                self.retry_at = boottime() + _AGAIN
                return
            self._unwritten.popleft()
        self._refused = ""
