"""The server: listens, shuts down in order, and closes."""

import asyncio
import ssl
from contextlib import suppress
from weakref import WeakSet

from ..core.worker import Worker
from .bounds import Bounds
from .grpc.calls import Calls
from .grpc.connection import CLOSE_PATIENCE, Http2Connection
from .grpc.server_connections import ServerConnections
from .handlers import Handlers
from .shutdown import Shutdown

HANDSHAKE_TIMEOUT = 10.0


class ApiServer:
    """Serves a Worker over gRPC to clients with a certificate.

    ``start``, then ``shut_down``, then ``close``; the caller closes the Worker.
    """

    def __init__(
        self, worker: Worker, ssl_context: ssl.SSLContext, *, bounds: Bounds | None = None
    ) -> None:
        bounds = bounds or Bounds()
        self._ssl_context = ssl_context
        self._shutdown = Shutdown()
        self._calls = Calls(Handlers(worker, self._shutdown), self._shutdown, bounds)
        self._factory = ServerConnections(self._calls, bounds)
        self.connections: WeakSet[Http2Connection] = WeakSet()
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen, and return the addresses; port 0 selects a free one. Raises OSError."""
        self._listener = await asyncio.get_running_loop().create_server(
            self._connect,
            host,
            port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            ssl_shutdown_timeout=CLOSE_PATIENCE,
        )
        return [socket.getsockname()[:2] for socket in self._listener.sockets]

    async def shut_down(self, timeout: float) -> None:
        """Accept no more connections and calls; end waiting calls, give the others ``timeout`` seconds."""
        if self._listener is not None:
            self._listener.close()
        self._shutdown.begin()
        with suppress(TimeoutError):  # close ends the rest
            async with asyncio.timeout(timeout):
                await self._calls.ended()

    async def close(self) -> None:
        """Close every connection and wait for their end. Jobs continue to run."""
        if self._listener is None:
            return
        self._listener.close()
        self._shutdown.begin()
        await asyncio.gather(*(connection.end(CLOSE_PATIENCE) for connection in self.connections))
        await self._calls.ended()
        with suppress(TimeoutError):  # from Python 3.12 it also waits for handshakes, which have a timeout
            async with asyncio.timeout(CLOSE_PATIENCE):
                await self._listener.wait_closed()

    def _connect(self) -> Http2Connection:
        connection = self._factory.make()
        self.connections.add(connection)
        return connection
