"""The server: listens, shuts down in order, and closes."""

import asyncio
import logging
from contextlib import suppress
from time import monotonic, time
from weakref import WeakSet

from ..core.audit.record import Event
from ..core.audit.trail import AuditTrail
from ..core.engine.tasks import Tasks
from ..core.worker import Worker
from .audit import ApiAudit
from .authorization import Authorization
from .bounds import Bounds
from .ends_of_validity import ClientExpiries
from .failed_handshakes import FailedHandshakes
from .fairness import RoundRobin
from .grpc.calls import Calls
from .grpc.connection import CLOSE_PATIENCE
from .grpc.server_connection import ServerConnection
from .grpc.server_connections import ServerConnections
from .handlers import Handlers
from .handshake_failure import handshake_failure
from .listener import Listener
from .reflection import Reflection
from .refusal_log import RefusalLog
from .server_tls import ServerTls
from .shutdown import Shutdown
from .tls import TlsSetupFailed

CHECK_PERIOD = 5.0
"""Seconds between two checks of the certificates of all clients that are connected."""

_WARNING_PERIOD = 86400.0

log = logging.getLogger(__name__)


class ApiServer:
    """Serves a Worker over gRPC to clients with a certificate.

    ``start``, then ``shut_down``, then ``close``; the caller closes the Worker. Certificates of clients are
    checked at each call, and every ``check_period`` seconds; then files of ``tls`` that were replaced are
    reloaded.
    """

    def __init__(
        self,
        worker: Worker,
        tls: ServerTls,
        *,
        bounds: Bounds | None = None,
        check_period: float = CHECK_PERIOD,
        audit: AuditTrail | None = None,
        authorization: Authorization | None = None,
        reflection: Reflection | None = None,
    ) -> None:
        self._audit = audit = audit or AuditTrail()
        self._failed_handshakes = FailedHandshakes(audit)
        self._bounds = bounds = bounds or Bounds()
        self._tls = tls
        self._check_period = check_period
        self._refusals = RefusalLog()
        self._shutdown = Shutdown()
        turns = RoundRobin()
        authorization = authorization or Authorization(worker)
        handlers = Handlers(worker, self._shutdown, bounds, turns, audit, authorization, reflection)
        recorded = ApiAudit(audit)
        self._calls = Calls(handlers, authorization, self._shutdown, bounds, turns, recorded)
        self._expiries = ClientExpiries()
        self._factory = ServerConnections(
            self._calls, bounds, lambda: tls.trust, self._refusals, self._expiries, recorded
        )
        self.connections: WeakSet[ServerConnection] = WeakSet()
        self._listener: Listener | None = None
        self._watch: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._disconnecting = Tasks()

    async def start(self, host: str, port: int) -> list[tuple[str, int]]:
        """Listen, and return the addresses; port 0 selects a free one. Raises OSError."""
        listener = Listener(
            self._tls.context_for_next_connection,
            self._connect,
            self._bounds,
            shutdown_timeout=CLOSE_PATIENCE,
            refused=self._handshake_failed,
        )
        addresses = await listener.start(host, port)
        self._listener = listener
        self._watch = asyncio.create_task(self._watch_certificates())
        return addresses

    async def reload_certificates(self) -> str | None:
        """Read all TLS files again; new connections and the next checks use them.

        Returns the error if one cannot be used; everything stays as it was then.
        """
        async with self._reloading:
            try:
                await asyncio.to_thread(self._tls.reload)  # a CRL may be long
            except TlsSetupFailed as error:
                log.error("certificates not reloaded, those before remain in force: %s", error)  # noqa: TRY400
                self._audit.write(Event.RELOADED, {"reason": str(error)})
                return str(error)
        log.info("certificates were reloaded")
        self._audit.write(Event.RELOADED, {})
        self._warn_of_expiry()
        self._disconnect_refused()
        return None

    def policy_replaced(self) -> None:
        """End the calls that a new policy does not allow."""
        self._disconnecting.start_detached(self._calls.standing.check_again())

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
        if self._watch is not None:
            self._watch.cancel()
        await self._listener.drop_handshakes()
        self._failed_handshakes.summarize()
        await asyncio.gather(*(connection.end(CLOSE_PATIENCE) for connection in self.connections))
        await self._calls.close()
        await self._disconnecting.ended()
        if self._watch is not None:
            await asyncio.wait({self._watch})

    def _connect(self) -> ServerConnection:
        connection = self._factory.make()
        self.connections.add(connection)
        return connection

    def _handshake_failed(self, host: str, error: BaseException) -> None:
        reason = handshake_failure(error)
        self._refusals.add(host, reason)
        self._failed_handshakes.failed(host, reason)

    async def _watch_certificates(self) -> None:
        """Disconnect clients that are no longer trusted; reload files that were replaced."""
        self._warn_of_expiry()
        warned = monotonic()
        while True:
            await asyncio.sleep(self._check_period)
            if self._tls.was_replaced():
                await self.reload_certificates()
            self._disconnect_refused()
            if monotonic() - warned >= _WARNING_PERIOD:
                self._warn_of_expiry()
                warned = monotonic()

    def _warn_of_expiry(self) -> None:
        for each in self._tls.expiries:
            if warning := each.warning(time()):
                log.warning("%s", warning)
        for connection in list(self.connections):
            if connection.check is not None:
                self._expiries.connected(connection.check.caller, time())

    def _disconnect_refused(self) -> None:
        for connection in list(self.connections):
            if connection.refused is None and (reason := connection.refusal()):
                self._disconnecting.start_detached(connection.refuse(reason))
