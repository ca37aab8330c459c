"""Bounds on what one client may use, so that it cannot slow down the others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from ..core.counts import Counts
from ..core.errors import QuotaExceeded, WorkerError
from ..core.model.client_id import ClientId


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times are in seconds. A client is a name and its issuer, however many connections it has."""

    max_streams: int = 10_000
    max_streams_per_client: int = 1000
    stalled_client_timeout: float = 300.0
    """How long a stream waits for a client that does not read."""
    keepalive_time: float = 30.0
    """Time between two pings of an idle client."""
    keepalive_timeout: float = 20.0
    """How long the server waits for the answer to a ping."""
    max_connections: int = 4096
    max_connections_per_client: int = 1024
    max_handshakes: int = 128
    """TLS handshakes in progress; no connection is accepted while there are so many."""
    max_handshakes_per_address: int = 32
    max_handshakes_per_second: int = 100
    handshake_timeout: float = 10.0
    load_balancers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose addresses stand for many clients: ``max_handshakes_per_address`` does not apply."""

    max_calls: int = 64
    """Unary calls that are executed at the same time; those that wait for a job are not among them."""
    max_calls_per_client: int = 1000
    """Unary calls in progress, those that wait for their turn included."""
    max_lookups: int = 64
    """Lookups on the host (users, and files that a client names) that run at once; clients take turns."""
    max_lookups_per_client: int = 4
    lookup_timeout: float = 5.0
    """How long a call waits for one."""
    max_start_size: int = 4 << 20
    """Bytes of a StartRequest; gRPC's own default."""
    max_request_size: int = 64 << 10
    """Bytes of any other request."""
    max_request_memory: int = 64 << 20
    """Bytes of requests that are not answered yet; a client may send more once there is room."""
    max_request_memory_per_client: int = 16 << 20
    request_timeout: float = 60.0
    """Time from the headers of a call to the end of its first request: an open call occupies memory."""
    max_reply_memory: int = 64 << 20
    """Bytes of replies and output that clients have not read; streams read less beyond that."""
    max_reply_memory_per_client: int = 16 << 20
    reply_timeout: float = 60.0
    """How long a unary reply waits for a client that does not read."""
    max_request_id_size: int = 128
    max_labels: int = 64
    max_label_size: int = 64 << 10
    """Bytes of all labels of a job."""
    reset_burst: int = 1000
    """Calls of a connection that its client may cancel at once; also frames that have no effect."""
    resets_per_second: int = 33
    ping_burst: int = 100
    pings_per_second: int = 10
    max_settings_frames: int = 100

    def is_exempt(self, host: str) -> bool:
        """Whether an address stands for many clients."""
        if not self.load_balancers:
            return False
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self.load_balancers)


def check_start(request_id: str, labels: Mapping[str, str], bounds: Bounds) -> None:
    """Raise QuotaExceeded, naming the setting, if that is more than the server keeps of a job.

    These stay in the journal, while arguments and environment are bounded by execve(2).
    """
    if (size := len(request_id.encode())) > bounds.max_request_id_size:
        raise QuotaExceeded(
            f"the request id has {size} bytes; the maximum is {bounds.max_request_id_size} "
            "(setting max_request_id_size)"
        )
    if len(labels) > bounds.max_labels:
        raise QuotaExceeded(
            f"there are {len(labels)} labels; the maximum is {bounds.max_labels} (setting max_labels)"
        )
    size = sum(len(part.encode()) for label in labels.items() for part in label)
    if size > bounds.max_label_size:
        raise QuotaExceeded(
            f"the labels have {size} bytes; the maximum is {bounds.max_label_size} (setting max_label_size)"
        )


class ClientStalled(WorkerError):
    """A client did not open its flow-control window in time: it reads nothing, or next to nothing."""

    def __init__(self, patience: float, setting: str = "stalled_client_timeout") -> None:
        super().__init__(f"the client has read too little output for {patience:g} s (setting {setting})")


class StreamSlots:
    """Counts the open output streams."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: Counts[ClientId] = Counts()

    @contextmanager
    def taken(self, client: ClientId) -> Iterator[None]:
        """Hold a slot of a client; raise QuotaExceeded, naming the setting, if none is free."""
        if self._open.get(client, 0) >= self._bounds.max_streams_per_client:
            raise QuotaExceeded(
                f"{client.name!r} has {self._open[client]} streams open, the maximum for one client "
                "(setting max_streams_per_client)"
            )
        if self._open.total() >= self._bounds.max_streams:
            raise QuotaExceeded(f"{self._open.total()} streams are open, the maximum (setting max_streams)")
        with self._open.one(client):
            yield


class ConnectionSlots:
    """Counts the connections of clients that are known."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: Counts[ClientId] = Counts()

    def refusal(self, client: ClientId) -> str | None:
        """Return why a client gets no further connection, naming the setting; None if it gets one."""
        if self._open[client] >= self._bounds.max_connections_per_client:
            return (
                f"{client.name!r} has {self._open[client]} connections, the maximum for one client "
                "(setting max_connections_per_client)"
            )
        if self._open.total() >= self._bounds.max_connections:
            return f"there are {self._open.total()} connections, the maximum (setting max_connections)"
        return None

    def take(self, client: ClientId) -> None:
        """Count a connection."""
        self._open[client] += 1

    def release(self, client: ClientId) -> None:
        """Count a connection no longer."""
        self._open.release(client)
