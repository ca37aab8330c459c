"""The server: listens, shuts down in order, and closes."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from ..core.worker import Worker
from .bounds import Bounds
from .fairness import RoundRobin
from .grpc.calls import Calls
from .grpc.connection import CLOSE_PATIENCE
from .grpc.server_connection import ServerConnection
from .grpc.server_connections import ServerConnections
from .handlers import Handlers
from .listener import Listener
from .shutdown import Shutdown


class ApiServer:
    """Serves a Worker over gRPC to clients with a certificate.

    ``start``, then ``shut_down``, then ``close``; the caller closes the Worker. ``ssl_context`` returns the
    context for the next connection, so that certificates can be replaced.
    """

    def __init__(
        self,
        worker: Worker,
        ssl_context: Callable[[], ssl.SSLContext],
        *,
        bounds: Bounds | None = None,
    ) -> None:
        self._bounds = bounds = bounds or Bounds()
        self._ssl_context = ssl_context
        self._shutdown = Shutdown()
        turns = RoundRobin()
        handlers = Handlers(worker, self._shutdown, bounds, turns)
        self._calls = Calls(handlers, self._shutdown, bounds, turns)
        self._factory = ServerConnections(self._calls, bounds)
        self.connections: WeakSet[ServerConnection] = WeakSet()
        self._listener: Listener | None = None

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen, and return the addresses; port 0 selects a free one. Raises OSError."""
        listener = Listener(self._ssl_context, self._connect, self._bounds, shutdown_timeout=CLOSE_PATIENCE)
        addresses = await listener.start(host, port)
        self._listener = listener
        return addresses

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
        await self._listener.drop_handshakes()
        await asyncio.gather(*(connection.end(CLOSE_PATIENCE) for connection in self.connections))
        await self._calls.ended()

    def _connect(self) -> ServerConnection:
        connection = self._factory.make()
        self.connections.add(connection)
        return connection
