"""Bounds on what one client may use, so that it cannot slow down the others."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from ..core.errors import QuotaExceeded, WorkerError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times are in seconds. A client is the name in a certificate, however many connections it has."""

    max_streams: int = 10_000
    max_streams_per_client: int = 1000
    stalled_client_timeout: float = 300.0
    """How long a stream waits for a client that does not read."""
    keepalive_time: float = 30.0
    """Time between two pings of an idle client."""
    keepalive_timeout: float = 20.0
    """How long the server waits for the answer to a ping."""
    max_handshakes: int = 128
    """TLS handshakes in progress; no connection is accepted while there are so many."""
    max_handshakes_per_address: int = 32
    max_handshakes_per_second: int = 100
    handshake_timeout: float = 10.0
    load_balancers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose addresses stand for many clients: ``max_handshakes_per_address`` does not apply."""

    def is_exempt(self, host: str) -> bool:
        """Whether an address stands for many clients."""
        if not self.load_balancers:
            return False
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self.load_balancers)


class ClientStalled(WorkerError):
    """A client did not open its flow-control window in time: it reads nothing, or next to nothing."""

    def __init__(self, patience: float) -> None:
        super().__init__(
            f"the client has read too little output for {patience:g} s (setting stalled_client_timeout)"
        )


class StreamSlots:
    """Counts the open output streams."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """Hold a slot of a client; raise QuotaExceeded, naming the setting, if none is free."""
        if self._open.get(client, 0) >= self._bounds.max_streams_per_client:
            raise QuotaExceeded(
                f"{client!r} has {self._open[client]} streams open, the maximum for one client "
                "(setting max_streams_per_client)"
            )
        if self._open.total() >= self._bounds.max_streams:
            raise QuotaExceeded(f"{self._open.total()} streams are open, the maximum (setting max_streams)")
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]
