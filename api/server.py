"""The server: listens, lets calls end before it goes, and closes."""

import asyncio
import ssl
from contextlib import suppress
from weakref import WeakSet

from grpclib.config import Configuration

from ..core.worker import Worker
from .bounds import Bounds
from .draining import Drain
from .grpc.calls import Calls
from .grpc.connections import CLOSE_PATIENCE, Connection
from .grpc.requests import Connections
from .handlers import Handlers

_WINDOW = 256 << 10
"""Bytes that a client may send before they are read, over one connection: more than most requests have."""

_OTHER_CALLS = 100
"""Calls that one connection may have open beside as many streams as its client may: a client that is
told of a bound of HTTP/2 waits, without a word and with all of its calls, until a stream ends."""

_UNBOUNDED = (1 << 31) - 1

HANDSHAKE_TIMEOUT = 10.0


class ApiServer:
    """Serves a Worker over gRPC to clients with a certificate.

    ``start``, then ``drain``, then ``close``; the Worker is closed by whoever made it.
    """

    def __init__(
        self, worker: Worker, ssl_context: ssl.SSLContext, *, bounds: Bounds | None = None
    ) -> None:
        bounds = bounds or Bounds()
        self._ssl_context = ssl_context
        self._drain = Drain()
        self._calls = Calls(Handlers(worker, self._drain), self._drain, bounds)
        self._connections = Connections(
            self._calls.methods(),
            self._calls.admit,
            _configuration(bounds),
            most_calls=min(bounds.max_streams_per_client + _OTHER_CALLS, _UNBOUNDED),
        )
        self._open: WeakSet[Connection] = WeakSet()
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen, and return the addresses; port 0 takes a free one. Raises OSError."""
        self._listener = await asyncio.get_running_loop().create_server(
            self._connect,
            host,
            port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=CLOSE_PATIENCE,
        )
        return [socket.getsockname()[:2] for socket in self._listener.sockets]

    async def drain(self, timeout: float) -> None:
        """Take no more connections and calls, tell those that block, give others ``timeout`` seconds."""
        if self._listener is not None:
            self._listener.close()
        self._drain.begin()
        with suppress(TimeoutError):  # close ends the rest
            async with asyncio.timeout(timeout):
                await self._calls.ended()

    async def close(self) -> None:
        """Close every connection and wait until nothing is left of them. Jobs run on."""
        if self._listener is None:
            return
        self._listener.close()
        self._drain.begin()
        await asyncio.gather(*(connection.end(CLOSE_PATIENCE) for connection in self._open))
        await self._calls.ended()
        with suppress(TimeoutError):  # from Python 3.12 it also waits for handshakes, which have a bound
            async with asyncio.timeout(CLOSE_PATIENCE):
                await self._listener.wait_closed()

    def _connect(self) -> Connection:
        connection = self._connections.make()
        self._open.add(connection)
        return connection


def _configuration(bounds: Bounds) -> Configuration:
    """Have clients that vanished without a word noticed, also those that only wait."""
    return Configuration(
        http2_connection_window_size=_WINDOW,
        http2_stream_window_size=_WINDOW,
        _keepalive_time=bounds.keepalive_time,
        _keepalive_timeout=bounds.keepalive_timeout,
        _keepalive_permit_without_calls=True,
        _http2_max_pings_without_data=0,
        _http2_min_sent_ping_interval_without_data=bounds.keepalive_time / 3,
    )
