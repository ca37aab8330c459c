"""A client that survives lost connections and restarts of the server: it repeats calls and resumes streams.

A call is repeated when its connection is lost or the server answers UNAVAILABLE. This is safe for every
method except Signal, which is not repeated: a Start carries a request id, and a Stop or Remove that was
already carried out counts as done. Every other status is final.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import uuid4

from ..core.model.ending import Channel
from ..core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    JobStatus,
)
from ..core.model.limits import ResourceLimits
from ..core.model.stream_start import BEGINNING, FromOffset, StreamStart
from ..core.model.stream_times import ANY_TIME, StreamTimes
from .client import (
    CONNECT_TIMEOUT,
    Client,
    RpcError,
    ServerUnreachable,
)

if TYPE_CHECKING:
    from ..api.who_am_i import WhoAmI
    from .attachment import AttachEvent
    from .pending_input import ReadInput
    from .window import Window

PATIENCE = 60.0
"""Seconds to wait for a server to come back."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_QUICK = 1.0
_MOST_QUICK_FAILURES = 5
# A call may fail this often in a row, each time within a second, although the server is up.

_Reply = TypeVar("_Reply")
Disconnection = RpcError | ServerUnreachable


class ResumingClient:
    """The methods of a Client, over as many connections as needed; an async context manager.

    ``connect`` makes the client for each connection: address and keys may have changed. It waits for a
    server that has answered before for ``patience`` seconds, and not at all for one that has not; then it
    raises the last error. ``on_lost`` gets the reason for a lost connection; ``on_back`` is called when
    there is another connection.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        patience: float = PATIENCE,
        on_lost: Callable[[Disconnection], None] = lambda _: None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = _Server(connect, patience, on_lost, on_back)

    async def __aenter__(self) -> Self:
        await self._server.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.client.__aexit__(kind, error, traceback)

    @property
    def away(self) -> bool:
        """Whether this client is waiting for the server."""
        return self._server.away

    async def start(
        self,
        spec: JobSpec,
        *,
        request_id: str = "",
        secrets: Mapping[str, bytes] = MappingProxyType({}),
    ) -> JobId:
        """Start a job exactly once and return its id."""
        request_id = request_id or str(uuid4())
        return await self._call(lambda client: client.start(spec, request_id=request_id, secrets=secrets))

    async def stop(
        self,
        job: str,
        *,
        signal: int | None = None,
        grace: float | None = None,
        signal_all: bool = False,
    ) -> int | None:
        """Stop a job; returns when it is finished, as Client.stop; None: the answer was lost."""
        return await self._finish(
            lambda client: client.stop(job, signal=signal, grace=grace, signal_all=signal_all),
            already="FailedPrecondition",
        )

    async def signal(self, job: str, number: int, *, all_processes: bool = False) -> None:
        """Send a signal to a job at most once: this call is not repeated."""
        try:
            await self._server.client.signal(job, number, all_processes=all_processes)
        except ServerUnreachable as error:
            if not error.lost:
                raise
            reason = f"{error.reason}; it is unknown whether the signal was sent"
            raise ServerUnreachable(error.address, reason, lost=True, silent=error.silent) from error

    async def pause(self, job: str) -> None:
        """Freeze all processes of a job."""
        await self._call(lambda client: client.pause(job))

    async def resume(self, job: str) -> None:
        """Let the processes of a paused job continue."""
        await self._call(lambda client: client.resume(job))

    async def query(self, job: str) -> JobStatus:
        """Return the status of a job."""
        return await self._call(lambda client: client.query(job))

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job that has all ``labels``; with ``running`` only those that are not finished."""
        return await self._call(lambda client: client.list(labels=labels, running=running))

    async def wait(self, job: str) -> JobStatus:
        """Return the status of a job once it is finished."""
        return await self._call(lambda client: client.wait(job))

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change those limits of a running job that ``changes`` sets."""
        await self._call(lambda client: client.update(job, changes))

    async def remove(self, job: str) -> None:
        """Remove a finished job and its output."""
        await self._finish(lambda client: client.remove(job), already="NotFound")

    async def who_am_i(self) -> "WhoAmI":
        """As Client.who_am_i."""
        return await self._call(Client.who_am_i)

    async def health(self, service: str = "") -> bool:
        """Whether the server, or a service of it, is serving."""
        return await self._call(lambda client: client.health(service))

    async def stream(
        self,
        job: str,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output as Client.stream does, every byte once, over any number of connections.

        Where bytes are no longer kept, the offset of a chunk is greater than the end of the previous one.
        """
        attempts, without_since = _Attempts(self._server), replace(times, since_ms=None)
        while True:
            chunks = attempts.begin().stream(
                job,
                channel=channel,
                start=start,
                follow=follow,
                times=times,
            )
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        attempts.progress()
                        # A tail or a time is resolved once: the first chunk, maybe empty, has its offset.
                        start = FromOffset(chunk.offset + len(chunk.data))
                        times = without_since
                        yield chunk
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                return

    async def attach(
        self,
        job: str,
        *,
        read: "ReadInput | None" = None,
        session: str = "",
        output: Mapping[Channel, StreamStart] | None = None,
        window: "Window | None" = None,
    ) -> AsyncGenerator["AttachEvent", None]:
        """Write what ``read`` returns to the stdin of a job, and yield its output, each byte once.

        The input begins after what was accepted before. With a ``session``, a text that only this client
        knows, it begins at byte 0, and bytes that this session has written before are skipped. Raises
        RpcError with the code Aborted if another client has written meanwhile. ``window``: the terminal of
        the job gets this size, also after each change. Ends when the job has finished; without output also
        when all input was accepted, or the job reads no more. Raises InputFailed if ``read`` raises
        OSError.
        """
        from .attachment import Attachment  # noqa: PLC0415 - few commands need it

        attachment = Attachment(job, read, session, output or {}, window)
        attempts = _Attempts(self._server)
        try:
            while True:
                try:
                    async with aclosing(attachment.events(attempts.begin())) as events:
                        async for event in events:
                            attempts.progress()
                            yield event
                except (RpcError, ServerUnreachable) as error:
                    await attempts.failed(error)
                else:
                    return
        finally:
            await attachment.close()

    async def _call(
        self, call: Callable[[Client], Awaitable[_Reply]], attempts: "_Attempts | None" = None
    ) -> _Reply:
        attempts = attempts or _Attempts(self._server)
        while True:
            try:
                reply = await call(attempts.begin())
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                attempts.progress()
                return reply

    async def _finish(self, call: Callable[[Client], Awaitable[_Reply]], already: str) -> _Reply | None:
        """Make a call; ``already`` in answer to a repetition means that the first was carried out: None."""
        attempts = _Attempts(self._server)
        try:
            return await self._call(call, attempts)
        except RpcError as error:
            if error.code != already or not attempts.repeated:
                raise
            return None


class _Server:
    """The server as all calls of a client see it: the current connection, and whether it has answered."""

    def __init__(
        self,
        connect: Callable[[], Client],
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

    async def open(self) -> None:
        """Prepare the first client."""
        self.client = await self._connect().__aenter__()

    @property
    def away(self) -> bool:
        """Whether a call is waiting for the server."""
        return self._away_since is not None

    def may_come_back(self, error: Disconnection) -> bool:
        """Whether another attempt may succeed after this error."""
        if isinstance(error, RpcError):
            return error.code == "Unavailable"
        return error.lost or self.has_answered

    async def reconnect(self, failed: Client, error: Disconnection) -> bool:
        """Replace the connection of ``failed``; return whether the server was away meanwhile.

        Raises the error of the last attempt when the server was away for too long.
        """
        async with self._reconnecting:
            if self.client is not failed:
                return True  # another call has already reconnected
            if self._away_since is None:
                self._away_since = monotonic()
            if isinstance(error, ServerUnreachable) and not error.silent:
                self._report_loss(error)
            was_away = False
            for pause in _pauses():
                await asyncio.sleep(min(pause, max(0.0, self._patience_left())))
                try:
                    client = await self._probe()
                except (RpcError, ServerUnreachable) as reason:
                    if _silent(reason) and not self.has_answered:
                        raise reason from None  # silent twice: it rejects our certificate
                    was_away = True
                    self._report_loss(reason if _silent(error) else error)
                    if self._patience_left() <= 0:
                        raise reason from None
                else:
                    break
            self.client = client
            self._away_since = None
            if self._loss_reported:
                self._loss_reported = False
                self._on_back()
        await failed.__aexit__(None, None, None)
        return was_away

    async def _probe(self) -> Client:
        """Connect, and return the client once its server answers."""
        client = await self._connect().__aenter__()
        bound = min(CONNECT_TIMEOUT, max(1.0, self._patience_left()))
        try:
            async with asyncio.timeout(bound):
                await client.health()
        except RpcError as error:
            if self.may_come_back(error):
                await client.__aexit__(None, None, None)
                raise
        except TimeoutError:
            await client.__aexit__(None, None, None)
            raise ServerUnreachable(client.address, f"no answer within {bound:g} s") from None
        except BaseException:
            await client.__aexit__(None, None, None)
            raise
        return client

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

    def begin(self) -> Client:
        """Begin an attempt; return the client for it."""
        self._begun = monotonic()
        self._client = self._server.client
        return self._client

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
        was_away = await server.reconnect(self._client, error)
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
