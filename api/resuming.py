"""A client that outlives connections and servers: calls are repeated, streams go on where they broke off.

A call is repeated when its connection is lost or the server says UNAVAILABLE. Every method can
be: a Start carries a request id, and what a repetition finds done already counts as done.
Whatever else the server says is final.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar
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
from .client import (
    CONNECT_TIMEOUT,
    Client,
    RpcError,
    ServerUnreachable,
)

PATIENCE = 60.0
"""Seconds that a server may be away."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_AT_ONCE = 1.0
_IN_VAIN = 5
# So often in a row a call may fail within a second although the server is up.

_Reply = TypeVar("_Reply")
Disconnection = RpcError | ServerUnreachable


class ResumingClient:
    """The methods of a Client, over as many connections as it takes; an async context manager.

    ``connect`` makes the client for each of them: address and keys may be others by then. A server
    that has never answered is not waited for, one that has for ``patience`` seconds; then the last
    error is raised. ``on_lost`` is told why a connection was lost, ``on_back`` is called when there
    is another.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        patience: float = PATIENCE,
        on_lost: Callable[[Disconnection], None] = lambda _: None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._patience = patience
        self._on_lost = on_lost
        self._on_back = on_back
        self._reconnecting = asyncio.Lock()
        self._known = False
        self._away_since: float | None = None
        self._told = False

    async def __aenter__(self) -> Self:
        self._client = await self._connect().__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    @property
    def away(self) -> bool:
        """Whether the server is being waited for."""
        return self._away_since is not None

    async def start(self, spec: JobSpec, *, request_id: str = "") -> JobId:
        """Start a job, once, and return its id."""
        request_id = request_id or str(uuid4())
        return await self._call(lambda client: client.start(spec, request_id=request_id))

    async def stop(self, job: str, *, signal: int | None = None, grace: float | None = None) -> None:
        """End a job; returns when it is over."""
        await self._finish(
            lambda client: client.stop(job, signal=signal, grace=grace), already="FailedPrecondition"
        )

    async def query(self, job: str) -> JobStatus:
        """Return what is known about a job."""
        return await self._call(lambda client: client.query(job))

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job that carries all ``labels``; with ``running`` only those not over."""
        return await self._call(lambda client: client.list(labels=labels, running=running))

    async def wait(self, job: str) -> JobStatus:
        """Return the status of a job once it is over."""
        return await self._call(lambda client: client.wait(job))

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change the limits of a running job to those that ``changes`` sets; the others stay."""
        await self._call(lambda client: client.update(job, changes))

    async def remove(self, job: str) -> None:
        """Have the server forget a job that is over, with its output."""
        await self._finish(lambda client: client.remove(job), already="NotFound")

    async def health(self) -> bool:
        """Whether the server serves."""
        return await self._call(lambda client: client.health())

    async def stream(
        self,
        job: str,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output as Client.stream does, every byte once, whatever becomes of connections.

        Where bytes are no longer kept the offset of a chunk is beyond the end of the one before.
        """
        attempts = _Attempts(self)
        while True:
            chunks = attempts.begin().stream(
                job,
                channel=channel,
                start=start,
                follow=follow,
            )
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        attempts.progress()
                        # A tail is resolved once: its first chunk, empty perhaps, tells where it begins.
                        start = FromOffset(chunk.offset + len(chunk.data))
                        yield chunk
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                return

    async def _call(
        self, call: Callable[[Client], Awaitable[_Reply]], attempts: "_Attempts | None" = None
    ) -> _Reply:
        attempts = attempts or _Attempts(self)
        while True:
            try:
                reply = await call(attempts.begin())
            except (RpcError, ServerUnreachable) as error:
                await attempts.failed(error)
            else:
                attempts.progress()
                return reply

    async def _finish(self, call: Callable[[Client], Awaitable[None]], already: str) -> None:
        """Make a call of which a repetition is told ``already`` where the first one was carried out."""
        attempts = _Attempts(self)
        try:
            await self._call(call, attempts)
        except RpcError as error:
            if error.code != already or not attempts.repeated:
                raise

    def _may_come_back(self, error: Disconnection) -> bool:
        if isinstance(error, RpcError):
            return error.code == "Unavailable"
        return error.lost or self._known

    async def _reconnect(self, failed: Client, error: Disconnection) -> bool:
        """Return when there is a connection in place of that of ``failed``, and whether it took long.

        Raises what came of the last try when the server was away for too long.
        """
        async with self._reconnecting:
            if self._client is not failed:
                return True  # another call was quicker
            if self._away_since is None:
                self._away_since = monotonic()
            if isinstance(error, ServerUnreachable) and not error.silent:
                self._tell(error)
            was_away = False
            for pause in _pauses():
                await asyncio.sleep(min(pause, max(0.0, self._patience_left())))
                try:
                    client = await self._probe()
                except (RpcError, ServerUnreachable) as reason:
                    if _silent(reason) and not self._known:
                        raise reason from None  # it refuses us: it does not happen to die twice
                    was_away = True
                    self._tell(reason if _silent(error) else error)
                    if self._patience_left() <= 0:
                        raise reason from None
                else:
                    break
            self._client = client
            self._away_since = None
            if self._told:
                self._told = False
                self._on_back()
        await failed.__aexit__(None, None, None)
        return was_away

    async def _probe(self) -> Client:
        """Return a client whose server answers."""
        client = await self._connect().__aenter__()
        bound = min(CONNECT_TIMEOUT, max(1.0, self._patience_left()))
        try:
            async with asyncio.timeout(bound):
                await client.health()
        except RpcError as error:
            if self._may_come_back(error):
                await client.__aexit__(None, None, None)
                raise
        except TimeoutError:
            await client.__aexit__(None, None, None)
            raise ServerUnreachable(client.address, f"no answer within {bound:g} s") from None
        except BaseException:
            await client.__aexit__(None, None, None)
            raise
        return client

    def _tell(self, error: Disconnection) -> None:
        if not self._told:
            self._told = True
            self._on_lost(error)

    def _patience_left(self) -> float:
        return self._patience - (monotonic() - (self._away_since or monotonic()))


class _Attempts:
    """One call, from its first try to its last."""

    def __init__(self, client: ResumingClient) -> None:
        self.repeated = False
        self._in_vain = 0
        self._resuming = client

    def begin(self) -> Client:
        """Return the client to try with."""
        self._begun = monotonic()
        self._client = self._resuming._client  # noqa: SLF001 - two halves of one thing
        return self._client

    def progress(self) -> None:
        """Note that the server has answered."""
        self._resuming._known = True  # noqa: SLF001 - see above
        self._in_vain = 0

    async def failed(self, error: Disconnection) -> None:
        """Return when the call is to be repeated; raise if it is not."""
        resuming = self._resuming
        if not resuming._patience or not resuming._may_come_back(error):  # noqa: SLF001 - see above
            raise error
        resuming._known = resuming._known or not _silent(error)  # noqa: SLF001 - see above
        at_once = monotonic() - self._begun < _AT_ONCE
        was_away = await resuming._reconnect(self._client, error)  # noqa: SLF001 - see above
        self.repeated = True
        self._in_vain = self._in_vain + 1 if at_once and not was_away else 0
        if self._in_vain >= _IN_VAIN:  # the server is up, and means it
            raise error
        if self._in_vain:
            await asyncio.sleep(_FIRST_PAUSE * 2**self._in_vain)


def _silent(error: Disconnection) -> bool:
    return isinstance(error, ServerUnreachable) and error.silent


def _pauses() -> Iterator[float]:
    """Yield seconds between tries, so that many clients do not come back at the same moment."""
    yield 0.0
    from random import uniform  # noqa: PLC0415 - only who has lost a server needs it

    pause = _FIRST_PAUSE
    while True:
        yield uniform(pause / 2, pause)  # noqa: S311 - no secret
        pause = min(pause * 2, _LONGEST_PAUSE)
