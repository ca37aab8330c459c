"""What every call goes through: admission, its request, its handler, its replies, its end.

No error leaves here untranslated, and no stream of replies stays open.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from betterproto2 import Message
from grpclib.const import Handler, Status
from grpclib.events import RecvRequest
from grpclib.exceptions import GRPCError
from grpclib.protocol import Peer
from grpclib.server import Stream
from h2.exceptions import StreamClosedError

from ...core.errors import AccessDenied
from ...core.model.job import Chunk
from ...core.steps import Step, reached
from ...proto.worker import StreamRequest
from ..bounds import Bounds, StreamSlots
from ..draining import Drain
from ..fairness import RoundRobin
from ..handlers import Handlers, caller
from ..methods import (
    METHODS,
    Method,
    ServerStream,
    Unary,
)
from ..roles import (
    NOBODY,
    Identity,
    Right,
    identify,
)
from ..wire.codec import decode
from .errors import Failure, failure_of
from .framing import ChunkSender, ClientStalled, send_reply
from .status import code_name

if TYPE_CHECKING:
    from ssl import SSLObject

MAX_REQUEST = 4 << 20
"""Bytes of the longest request; the same as gRPC's own default."""

REQUEST_TIMEOUT = 60.0
"""Seconds that a request may take to come, from its headers on: a call that is held open costs memory."""

log = logging.getLogger(__name__)
audit = logging.getLogger("worker.audit")


class Calls:
    """Admits calls and runs them."""

    def __init__(self, handlers: Handlers, drain: Drain, bounds: Bounds) -> None:
        self._handlers = handlers
        self._drain = drain
        self._bounds = bounds
        self._slots = StreamSlots(bounds)
        self._streams = RoundRobin()
        self._running: set[asyncio.Task[None]] = set()
        self._identities: WeakKeyDictionary[SSLObject, Identity] = WeakKeyDictionary()

    def methods(self) -> dict[str, Handler]:
        """Return grpclib's view of the table of methods."""
        return {
            path: Handler(partial(self._run, method), method.cardinality, method.request, method.reply)
            for path, method in METHODS.items()
        }

    async def admit(self, event: RecvRequest) -> None:
        """Let a call go on to its handler, in the name of its caller, or refuse it."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            self._drain.check("call again later")
            self._authorize(event.method_name, event.peer)
        except Exception as error:  # noqa: BLE001 - failure_of logs what was not foreseen
            failure = failure_of(error)
            raise GRPCError(failure.status, failure.message) from None

    async def ended(self) -> None:
        """Wait until no call is running."""
        while self._running:
            await asyncio.wait(self._running)

    def _authorize(self, path: str, peer: Peer) -> None:
        method = METHODS.get(path)
        if method is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"there is no method {path}")
        identity = self._identity(peer)
        if not identity.may(method.right):
            if method.right is Right.WRITE:
                audit.warning("%r: %s: denied", identity.name, method.name)
            roles = ", ".join(sorted(identity.roles)) or "none"
            raise AccessDenied(
                f"{method.name} needs a role with the right to {method.right.value}; "
                f"the roles of {identity.name!r} are: {roles}"
            )
        caller.set(identity)

    def _identity(self, peer: Peer) -> Identity:
        """Return who is at the other end; the certificate is looked at once per connection."""
        # Peer.cert() is a dict without the extensions that ssl does not know.
        connection = peer._transport.get_extra_info("ssl_object")  # noqa: SLF001
        if connection is None:
            return NOBODY
        if connection not in self._identities:
            certificate = connection.getpeercert(binary_form=True)
            self._identities[connection] = identify(certificate) if certificate else NOBODY
        return self._identities[connection]

    async def _run(self, method: Method, stream: Stream[Message, Message]) -> None:
        request: Message | None = None
        reply: Message | None = None
        outcome = "OK"
        try:
            if isinstance(method, Unary):
                request = await receive(stream, method.request)
                reply = await method.handler(self._handlers, request)
                await send_reply(stream, reply)
                reached(Step.ANSWERED)
            elif isinstance(method, ServerStream):
                request = await receive(stream, method.request)
                async with aclosing(method.handler(self._handlers, request)) as replies:
                    async for reply in replies:
                        await stream.send_message(reply)
            else:
                with self._slots.taken(caller.get().name):  # before the request, which may never come
                    request = await receive(stream, method.request)
                    assert isinstance(request, StreamRequest)
                    await self._send_output(stream, method.handler(self._handlers, request))
        except asyncio.CancelledError:
            outcome = "given up by the client"
            if stream.deadline is not None and stream.deadline.time_remaining() <= 0:
                with suppress(StreamClosedError):
                    await _fail(stream, Failure(Status.DEADLINE_EXCEEDED, "the call's deadline has passed"))
            raise
        except Exception as error:  # noqa: BLE001 - failure_of logs what was not foreseen
            failure = failure_of(error)
            outcome = f"{code_name(failure.status)}: {failure.message}"
            if isinstance(error, ClientStalled):
                log.warning("%r: a stream is ended: %s", caller.get().name, error)
            await _fail(stream, failure)
        finally:
            if method.right is Right.WRITE:
                _audit(method, request, reply, outcome)

    async def _send_output(
        self, stream: Stream[Message, Message], output: AsyncGenerator[Chunk, None]
    ) -> None:
        sender = ChunkSender(stream, self._bounds.stalled_client_timeout)
        async with aclosing(output) as chunks:
            async for chunk in chunks:
                await sender.send(chunk)
                await self._streams.turn()  # while the socket takes data nothing above waits


async def receive(stream: Stream[Message, Message], message_type: type[Message]) -> Message:
    """Return the request, of bounded size; raise GRPCError or MalformedMessage if there is none in time.

    grpclib's own recv_message buffers whatever size a client announces, up to 4 GiB, and
    answers UNKNOWN to what it cannot read.
    """
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            return decode(await _request(stream), message_type)
    except TimeoutError:
        raise GRPCError(
            Status.DEADLINE_EXCEEDED, f"the request message has not come within {REQUEST_TIMEOUT:g} s"
        ) from None


async def _request(stream: Stream[Message, Message]) -> bytes:
    wire = stream._stream  # noqa: SLF001 - see above
    try:
        prefix = await wire.recv_data(5)
        if not prefix:
            raise GRPCError(Status.INVALID_ARGUMENT, "the request message is missing")
        compressed, size = struct.unpack(">BI", prefix)
        if compressed:
            raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported")
        if size > MAX_REQUEST:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED, f"the request has {size} bytes; {MAX_REQUEST} are the most"
            )
        data = await wire.recv_data(size)
    except AssertionError:  # how grpclib's buffer says so
        raise GRPCError(Status.INVALID_ARGUMENT, "the request message is cut short") from None
    if len(data) < size:
        raise GRPCError(Status.INVALID_ARGUMENT, "the request message is cut short")
    return data


async def _fail(stream: Stream[Message, Message], failure: Failure) -> None:
    await stream.send_trailing_metadata(
        status=failure.status, status_message=failure.message, metadata=failure.metadata
    )


def _audit(method: Method, request: Message | None, reply: Message | None, outcome: str) -> None:
    """Record who changed what. All messages call a job `job_id`; a Start's is in its reply."""
    job = getattr(reply, "job_id", "") or getattr(request, "job_id", "")
    audit.info("%r: %s: job %.40r: %.200r", caller.get().name, method.name, job, outcome)
