"""The log of refused clients. Anybody can cause these lines, so their number is bounded."""

import logging
from time import monotonic

from .rate import TokenBucket

_BURST, _PER_SECOND = 50, 1.0

log = logging.getLogger(__name__)


class RefusalLog:
    """Logs who was refused and why: 50 lines at once, then one a second, with the number of the others."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(_BURST, _PER_SECOND, monotonic())
        self._omitted = 0

    def add(self, client: str, reason: str) -> None:
        """Log one, or count it."""
        if not self._bucket.take(monotonic()):
            self._omitted += 1
            return
        if self._omitted:
            log.warning("%d more clients were refused", self._omitted)
            self._omitted = 0
        log.warning("%s: refused: %s", client, reason)
