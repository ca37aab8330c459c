"""What clients may take of the server, so that none of them slows the others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..core.errors import QuotaExceeded


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times are in seconds. A client is the name in a certificate, however many connections it has."""

    max_streams: int = 10_000
    max_streams_per_client: int = 1000
    stalled_client_timeout: float = 300.0
    """How long a stream waits for a client that does not read."""
    keepalive_time: float = 30.0
    """How often a client is asked whether it is still there."""
    keepalive_timeout: float = 20.0
    """How long its answer may take."""


class StreamSlots:
    """Counts the streams of output that are open."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """Hold a slot of a client; raise QuotaExceeded, naming the setting, if none is free."""
        if self._open.get(client, 0) >= self._bounds.max_streams_per_client:
            raise QuotaExceeded(
                f"{client!r} has {self._open[client]} streams open, and may have no more "
                "(setting max_streams_per_client)"
            )
        if self._open.total() >= self._bounds.max_streams:
            raise QuotaExceeded(
                f"{self._open.total()} streams are open, and there may be no more (setting max_streams)"
            )
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
