"""Calls that survive lost connections and restarts of the server: they are repeated, and streams resume.

A call is repeated when its connection is lost or the server answers UNAVAILABLE. This is safe for every
method except Signal, which is not repeated: a Start carries a request id, and a Stop or Remove that was
already carried out counts as done. Every other status is final.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from time import monotonic
from typing import TypeVar

from ..proto import betterproto2  # loads it without what only its tools need
from .connection import CONNECT_TIMEOUT, Connection
from .errors import Disconnection, RpcError, ServerUnreachable

PATIENCE = 60.0
"""Seconds to wait for a server to come back."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_QUICK = 1.0
_MOST_QUICK_FAILURES = 5
# A call may fail this often in a row, each time within a second, although the server is up.

_Reply = TypeVar("_Reply", bound=betterproto2.Message)
_Result = TypeVar("_Result")


def method(name: str) -> str:
    """Return the path of a method of the service."""
    return f"/worker.v1.WorkerService/{name}"


class Calls:
    """The calls of one client, over as many connections as needed.

    ``connect`` makes each connection: address and keys may have changed. A server that has answered before
    is waited for, for ``patience`` seconds; one that has not is not. Then the last error is raised.
    ``on_lost`` gets the reason for a lost connection; ``on_back`` is called when there is another one.
    The arguments of a call are those of Connection.unary.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        patience: float,
        on_lost: Callable[[Disconnection], None],
        on_back: Callable[[], None],
    ) -> None:
        self._server = _Server(connect, patience, on_lost, on_back)

    def open(self) -> None:
        """Prepare the first connection."""
        self._server.open()

    async def close(self) -> None:
        """Close the connection."""
        await self._server.connection.close()

    @property
    def away(self) -> bool:
        """Whether a call is waiting for the server."""
        return self._server.away

    async def make(
        self,
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
    ) -> _Result:
        """Make a call whose repetition is harmless."""
        return await self._repeated(_Attempts(self._server), path, request, reply_type, read)

    async def make_final(
        self,
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
        *,
        already: str,
    ) -> _Result | None:
        """Make a call that is refused once it was carried out.

        The code ``already`` in answer to a repetition means that the first was carried out: None.
        """
        attempts = _Attempts(self._server)
        try:
            return await self._repeated(attempts, path, request, reply_type, read)
        except RpcError as error:
            if error.code != already or not attempts.repeated:
                raise
            return None

    async def make_once(
        self,
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
        *,
        unknown: str,
    ) -> _Result:
        """Make a call that must not be repeated; ``unknown`` is what to say if the answer is lost."""
        try:
            return await self._server.connection.unary(path, request, reply_type, read)
        except ServerUnreachable as error:
            if not error.lost:
                raise
            reason = f"{error.reason}; {unknown}"
            raise ServerUnreachable(error.address, reason, lost=True, silent=error.silent) from error

    async def make_resumed(
        self, call: Callable[[Connection], AsyncGenerator[_Result, None]]
    ) -> AsyncGenerator[_Result, None]:
        """Yield what ``call`` yields; it is called again after a loss, and continues where it was."""
        attempts = _Attempts(self._server)
        while True:
            try:
                async with aclosing(call(attempts.begin())) as results:
                    async for result in results:
                        attempts.progress()
                        yield result
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                return

    async def _repeated(
        self,
        attempts: "_Attempts",
        path: str,
        request: betterproto2.Message,
        reply_type: type[_Reply],
        read: Callable[[_Reply], _Result],
    ) -> _Result:
        while True:
            try:
                result = await attempts.begin().unary(path, request, reply_type, read)
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                attempts.progress()
                return result


class _Server:
    """The server as all calls of a client see it: the current connection, and whether it has answered."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        patience: float,
        on_lost: Callable[[Disconnection], None],
        on_back: Callable[[], None],
    ) -> None:
        self._connect = connect
        self.patience = patience
        self._on_lost = on_lost
        self._on_back = on_back
        self._reconnecting = asyncio.Lock()
        self.has_answered = False
        self._away_since: float | None = None
        self._loss_reported = False

    def open(self) -> None:
        """Prepare the first connection."""
        self.connection = self._connect()

    @property
    def away(self) -> bool:
        """Whether a call is waiting for the server."""
        return self._away_since is not None

    def may_come_back(self, error: Disconnection) -> bool:
        """Whether another attempt may succeed after this error."""
        if isinstance(error, RpcError):
            return error.code == "Unavailable"
        return error.lost or self.has_answered

    async def reconnect(self, failed: Connection, error: Disconnection) -> bool:
        """Replace the connection of ``failed``; return whether the server was away meanwhile.

        Raises the error of the last attempt when the server was away for too long.
        """
        async with self._reconnecting:
            if self.connection is not failed:
                return True  # another call has already reconnected
            if self._away_since is None:
                self._away_since = monotonic()
            if isinstance(error, ServerUnreachable) and not error.silent:
                self._report_loss(error)
            was_away = False
            for pause in _pauses():
                await asyncio.sleep(min(pause, max(0.0, self._patience_left())))
                try:
                    connection = await self._probe()
                except (RpcError, ServerUnreachable) as reason:
                    if _silent(reason) and not self.has_answered:
                        raise reason from None  # silent twice: it rejects our certificate
                    was_away = True
                    self._report_loss(reason if _silent(error) else error)
                    if self._patience_left() <= 0:
                        raise reason from None
                else:
                    break
            self.connection = connection
            self._away_since = None
            if self._loss_reported:
                self._loss_reported = False
                self._on_back()
        await failed.close()
        return was_away

    async def _probe(self) -> Connection:
        """Connect, and return the connection once its server answers."""
        from .health import check  # noqa: PLC0415 - needed only after a loss

        connection = self._connect()
        bound = min(CONNECT_TIMEOUT, max(1.0, self._patience_left()))
        try:
            async with asyncio.timeout(bound):
                await connection.unary(*check(""))
        except RpcError as error:
            if self.may_come_back(error):
                await connection.close()
                raise
        except TimeoutError:
            await connection.close()
            raise ServerUnreachable(connection.address, f"no answer within {bound:g} s") from None
        except BaseException:
            await connection.close()
            raise
        return connection

    def _report_loss(self, error: Disconnection) -> None:
        if not self._loss_reported:
            self._loss_reported = True
            self._on_lost(error)

    def _patience_left(self) -> float:
        return self.patience - (monotonic() - (self._away_since or monotonic()))


class _Attempts:
    """One call, from its first attempt to its last."""

    def __init__(self, server: _Server) -> None:
        self.repeated = False
        self._quick_failures = 0
        self._server = server

    def begin(self) -> Connection:
        """Begin an attempt; return the connection for it."""
        self._begun = monotonic()
        self._connection = self._server.connection
        return self._connection

    def progress(self) -> None:
        """Record that the server has answered."""
        self._server.has_answered = True
        self._quick_failures = 0

    async def failed(self, error: Disconnection) -> None:
        """Return when the call should be repeated; raise the error if it should not."""
        server = self._server
        if not server.patience or not server.may_come_back(error):
            raise error
        server.has_answered = server.has_answered or not _silent(error)
        quick = monotonic() - self._begun < _QUICK
        was_away = await server.reconnect(self._connection, error)
        self.repeated = True
        self._quick_failures = self._quick_failures + 1 if quick and not was_away else 0
        if self._quick_failures >= _MOST_QUICK_FAILURES:  # the server is up, and keeps failing
            raise error
        if self._quick_failures:
            await asyncio.sleep(_FIRST_PAUSE * 2**self._quick_failures)


def _silent(error: Disconnection) -> bool:
    return isinstance(error, ServerUnreachable) and error.silent


def _pauses() -> Iterator[float]:
    """Yield seconds between attempts, jittered so that many clients do not return at the same moment."""
    yield 0.0
    from random import uniform  # noqa: PLC0415 - needed only after a loss

    pause = _FIRST_PAUSE
    while True:
        yield uniform(pause / 2, pause)  # noqa: S311 - not a secret
        pause = min(pause * 2, _LONGEST_PAUSE)
