"""Accepting connections: a bounded number of TLS handshakes at a bounded rate, cheap until one begins.

A client has no name before the end of its handshake, so what it costs is bounded by address and in total.
A connection costs a socket and a task until its first bytes arrive: OpenSSL and asyncio need 100 KiB for
each TLS connection. The part of asyncio without documentation in this module is in private-parts.md.
"""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from errno import ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM
from ipaddress import ip_address
from itertools import chain
from math import ceil
from os import strerror

from ..core.counts import Counts
from .bounds import Bounds
from .grpc.server_connection import ServerConnection
from .rate import TokenBucket

READ_BUFFER = 16384
"""Bytes read at once from a client; asyncio's default is 256 KiB. A thousand clients may be idle."""

_BACKLOG = 1024
"""Connections that the kernel keeps while none are accepted."""

_BURST = 10
"""Handshakes that may begin at the same moment; more follow at the rate. The ones of an honest burst are
over before there are too many of one address."""

_SILENCE = 1.0
"""Seconds that a client has to say something while others cannot connect because of too many handshakes."""

WAITING = 8
"""Connections that may wait for each handshake that may be unfinished, of one address and in total."""

_OVERHEAD = 32
"""Bytes that TLS may need for each byte of data: a record with one byte has 23."""

_OVERHEAD_FREE = 256 << 10
"""Bytes that it may need besides, for example for certificates."""

_SHORTAGE_PAUSE = 1.0
"""Seconds without accepting after the process had no descriptor or memory for a connection."""

_QUIET = 60.0
"""Seconds between two log lines about the same bound: a client that reaches it could fill the disk."""

_SHORTAGES = {EMFILE, ENFILE, ENOBUFS, ENOMEM}

Refused = Callable[[str, BaseException], None]
"""Called with the address and the error of each handshake that fails."""

log = logging.getLogger(__name__)


class TlsProtocol(SSLProtocol):
    """asyncio's, with a small read buffer, a bound on what is not data, and the alert for a refused client.

    Not data are key updates, which ssl does not report: a client could send them without end.
    """

    max_size = READ_BUFFER
    _raw = 0

    def serve(self, served: ServerConnection) -> None:
        """Compare what arrives with the data that ``served`` gets."""
        self._served = served

    def buffer_updated(self, nbytes: int) -> None:
        """Process bytes of the network."""
        super().buffer_updated(nbytes)
        self._raw += nbytes
        if self._raw > _OVERHEAD_FREE + _OVERHEAD * self._served.received:
            self._raw = 0
            self._served.terminate("the client sends too many TLS records without data")

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is not None:
            self._process_outgoing()  # type: ignore[attr-defined] # asyncio itself would discard the alert
        super()._on_handshake_complete(handshake_exc)


class Listener:
    """Listens for TLS connections, and makes a protocol for each of them.

    ``context`` returns the TLS context of the next connection; ``protocol`` makes what speaks over it once
    its handshake is complete. Handshakes that fail are reported to ``refused``.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        protocol: Callable[[], ServerConnection],
        bounds: Bounds,
        *,
        shutdown_timeout: float,
        refused: Refused,
    ) -> None:
        self._context = context
        self._protocol = protocol
        self._bounds = bounds
        self._shutdown_timeout = shutdown_timeout
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._accepting = False
        self._resumption: asyncio.TimerHandle | None = None
        self._rate = TokenBucket(
            min(_BURST, bounds.max_handshakes_per_second),
            bounds.max_handshakes_per_second,
            self._loop.time(),
        )
        self._handshakes: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], float] = {}  # since when, the oldest first
        self._eviction: asyncio.TimerHandle | None = None
        self._of_address: Counts[str] = Counts()
        self._waiting: dict[str, deque[tuple[socket.socket, str]]] = {}  # by network
        self._logged: dict[str, float] = {}

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen, and return the addresses; port 0 selects a free one. Raises OSError."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
                self._sockets[-1].setblocking(False)
        except OSError:
            self.close()
            raise
        self._resume()
        return [each.getsockname()[:2] for each in self._sockets]

    def close(self) -> None:
        """Accept no more connections; handshakes in progress continue."""
        self._pause()
        if self._eviction is not None:
            self._eviction.cancel()
            self._eviction = None
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def drop_handshakes(self) -> None:
        """End the handshakes in progress, and those that have not begun."""
        for connection, _ in chain.from_iterable(self._waiting.values()):
            connection.close()
        self._waiting.clear()
        for each in self._handshakes:
            each.cancel()
        if self._handshakes:
            await asyncio.wait(self._handshakes)

    def _resume(self) -> None:
        """Accept connections, unless there are too many handshakes."""
        if self._accepting or len(self._handshakes) >= self._bounds.max_handshakes:
            return
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        if delay := self._rate.seconds_to_next(self._loop.time()):
            self._resumption = self._loop.call_later(delay, self._resume)
            return
        self._accepting = True
        for each in self._sockets:
            self._loop.add_reader(each, self._accept, each)

    def _pause(self) -> None:
        """Accept none; the kernel keeps those that arrive, and no longer wakes the loop for them."""
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        if self._accepting:
            self._accepting = False
            for each in self._sockets:
                self._loop.remove_reader(each)

    def _accept(self, listening: socket.socket) -> None:
        """Accept one connection: other clients are served before the next one."""
        if not self._accepting:  # another socket was ready at the same time
            return
        try:
            connection, address = listening.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if error.errno == ECONNABORTED:  # it is gone already
                return
            if error.errno not in _SHORTAGES:
                raise
            self._log_rarely("cannot accept connections at the moment: %s", strerror(error.errno or 0))
            self._pause()
            self._resumption = self._loop.call_later(_SHORTAGE_PAUSE, self._resume)
            return
        self._begin(connection, address[0])

    def _begin(self, connection: socket.socket, host: str) -> None:
        connection.setblocking(False)
        network = _network(host)
        # A connection that waits uses nothing of the rate, so that others need not wait for this address.
        if (
            self._bounds.is_exempt(host)
            or self._of_address[network] < self._bounds.max_handshakes_per_address
        ):
            self._begin_handshake(connection, host, network)
        elif self._may_wait(network):
            self._waiting.setdefault(network, deque()).append((connection, host))
        else:
            self._log_rarely(
                "%s: closing new connections: it has too many unfinished TLS handshakes "
                "(setting max_handshakes_per_address)",
                network,
            )
            connection.close()

    def _may_wait(self, network: str) -> bool:
        most = WAITING * self._bounds.max_handshakes_per_address
        in_total = sum(map(len, self._waiting.values()))
        return (
            len(self._waiting.get(network, ())) < most and in_total < WAITING * self._bounds.max_handshakes
        )

    def _begin_handshake(self, connection: socket.socket, host: str, network: str) -> None:
        self._rate.take(self._loop.time())
        self._of_address[network] += 1
        task = self._loop.create_task(self._serve(connection, host))
        self._handshakes.add(task)
        self._silent[task] = self._loop.time()
        task.add_done_callback(lambda _: self._end(task, network))
        if len(self._handshakes) >= self._bounds.max_handshakes:
            self._log_rarely(
                "accepting no connections at the moment: %s TLS handshakes are unfinished "
                "(setting max_handshakes)",
                len(self._handshakes),
            )
            self._pause()
            self._plan_eviction()
        elif self._rate.seconds_to_next(self._loop.time()):
            self._pause()
            self._resume()

    def _plan_eviction(self) -> None:
        """Close the connection that has been silent for the longest time, once that is too long."""
        if self._eviction is None and self._silent:
            since = next(iter(self._silent.values()))
            self._eviction = self._loop.call_at(since + _SILENCE, self._evict)

    def _evict(self) -> None:
        self._eviction = None
        if self._silent and len(self._handshakes) >= self._bounds.max_handshakes:
            task, since = next(iter(self._silent.items()))
            if since + _SILENCE <= self._loop.time():
                del self._silent[task]
                task.cancel()
            self._plan_eviction()

    def _end(self, task: asyncio.Task[None], network: str) -> None:
        self._handshakes.discard(task)
        self._silent.pop(task, None)
        self._of_address.release(network)
        if waiting := self._waiting.get(network):
            connection, host = waiting.popleft()
            if not waiting:
                del self._waiting[network]
            self._begin_handshake(connection, host, network)
        if self._sockets and self._resumption is None:
            self._resume()

    async def _serve(self, connection: socket.socket, host: str) -> None:
        """Make a TLS connection; it stays open after this call."""
        transport: asyncio.BaseTransport | None = None
        patience = self._bounds.handshake_timeout
        try:
            async with asyncio.timeout(patience):
                await self._first_bytes(connection)
                self._silent.pop(_current(), None)
                done = self._loop.create_future()
                served = self._protocol()
                tls = TlsProtocol(
                    self._loop,
                    served,
                    self._context(),
                    done,
                    server_side=True,
                    ssl_handshake_timeout=ceil(patience) + 1,  # the timeout above ends it
                    ssl_shutdown_timeout=self._shutdown_timeout,
                )
                tls.serve(served)
                transport, _ = await self._loop.connect_accepted_socket(lambda: tls, connection)
                await done
        except BaseException as error:
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                connection.close()
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"it is not complete after {patience:g} s (setting handshake_timeout)")
            if not isinstance(error, OSError):
                raise
            self._refused(host, error)

    async def _first_bytes(self, connection: socket.socket) -> None:
        readable = self._loop.create_future()
        self._loop.add_reader(connection, _set, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(connection)

    def _log_rarely(self, message: str, *arguments: object) -> None:
        now = self._loop.time()
        if now - self._logged.get(message, -_QUIET) >= _QUIET:
            self._logged[message] = now
            log.warning(message, *arguments)


def _current() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _network(host: str) -> str:
    """Return the part of an address that one client has to itself: of IPv6 the first 64 bits."""
    if ":" not in host:
        return host
    with suppress(ValueError):
        return ip_address(host.partition("%")[0]).exploded[:19] + "::/64"
    return host
