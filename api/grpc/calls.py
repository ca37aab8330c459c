"""The path of every call: admission, request, handler, replies, status, audit.

Every error becomes a status (api/errors.py), and every stream of replies is closed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from functools import partial

from betterproto2 import Message
from grpclib.const import Cardinality, Handler
from grpclib.events import RecvRequest
from grpclib.exceptions import GRPCError
from grpclib.protocol import Peer
from grpclib.server import Stream
from h2.exceptions import StreamClosedError

from ...core import look_up
from ...core.errors import AccessDenied, JobHidden
from ...core.model.job import Chunk
from ...core.steps import Step, reached
from ...proto.worker import AttachOpen, AttachRequest, AttachResponse, StartRequest, StreamRequest
from ..attach_handler import Requests
from ..audit import ApiAudit, AuditedCall
from ..authorization import Authorization, permit
from ..bounds import Bounds, ClientStalled, StreamSlots
from ..byte_budget import ByteBudget
from ..errors import CallRejected, CertificateRefused, ErrorReply, error_reply
from ..fairness import CallTurns, RoundRobin
from ..handlers import Handlers, caller
from ..lookup_threads import LookupThreads
from ..methods import (
    METHODS,
    AnsweredStream,
    Bidirectional,
    Gathered,
    Method,
    OutputStream,
    ServerStream,
    Unary,
)
from ..output_room import OutputRoom, output_room
from ..roles import Right
from ..shutdown import Shutdown
from ..standing_permits import StandingPermits
from ..wire.decoding import MalformedMessage
from ..wire.encoding import encode
from .framing import ReplySender, send_counted, send_reply
from .requests import MAX_STREAMED_REQUEST, SHORT_REQUEST, RequestReader, receive_rest
from .server_connection import ServerConnection
from .status import Status

_CANCELED = ErrorReply(Status.CANCELLED, "canceled by the client")
_GONE = ErrorReply(Status.OK, "the client was gone before the reply")

log = logging.getLogger(__name__)

_connections: ContextVar[ServerConnection] = ContextVar("connections")
"""The connection of the call that is being handled."""


class Calls:
    """Admits calls and runs them."""

    def __init__(
        self,
        handlers: Handlers,
        authorization: Authorization,
        shutdown: Shutdown,
        bounds: Bounds,
        turns: RoundRobin,
        audit: ApiAudit,
    ) -> None:
        self._handlers = handlers
        self._authorization = authorization
        self._shutdown = shutdown
        self._audit = audit
        self._bounds = bounds
        self._slots = StreamSlots(bounds)
        self._calls = CallTurns(bounds)
        self.turns = turns
        self.requests = ByteBudget(
            bounds.max_request_memory_per_client,
            bounds.max_request_memory,
            "max_request_memory_per_client",
        )
        self._replies = ByteBudget(
            bounds.max_reply_memory_per_client, bounds.max_reply_memory, "max_reply_memory_per_client"
        )
        self._lookups = LookupThreads(bounds)
        self.standing = StandingPermits(authorization, self._lookups)
        self._running: set[asyncio.Task[None]] = set()

    def methods(self) -> dict[str, Handler]:
        """Return the table of methods in grpclib's form."""
        return {
            path: Handler(partial(self._run, method), _cardinality(method), method.request, method.reply)
            for path, method in METHODS.items()
        }

    async def admit(self, event: RecvRequest) -> None:
        """Admit a call in the name of its caller, or reject it."""
        task = asyncio.current_task()
        assert task is not None
        connection = _connection(event.peer)
        for running in (self._running, connection.calls):
            running.add(task)
            task.add_done_callback(running.discard)
        _connections.set(connection)
        try:
            self._shutdown.check("call again later")
            self._authorize(event.method_name, connection)
        except Exception as error:  # noqa: BLE001 - error_reply logs unexpected ones
            reply = error_reply(error)
            raise GRPCError(reply.status, reply.message) from None

    async def ended(self) -> None:
        """Wait until no call is running."""
        while self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Wait until no call is running, and release what they have used."""
        await self.ended()
        await self.standing.close()
        self._lookups.close()

    def _authorize(self, path: str, connection: ServerConnection) -> None:
        assert connection.check is not None
        client, method = connection.check.caller, METHODS.get(path)
        if reason := connection.refusal():
            self._audit.denied(method, client, reason)
            raise CertificateRefused(reason)
        if method is None:
            raise CallRejected(Status.UNIMPLEMENTED, f"there is no method {path}")
        if method.request is not StartRequest:  # its request is recorded: _check_start_by_role
            try:
                self._authorization.check_role(client.identity, method.name, method.right)
            except AccessDenied as error:
                self._audit.denied(method, client, str(error))
                raise
        caller.set(client)
        look_up.runner.set(self._lookups.of(client.identity.client))

    async def _begin(self, call: "_Call", request: Message) -> None:
        """Decide about a request by the policy, record it, and set what is allowed for the handler."""
        identity, group = caller.get().identity, call.method.group
        call.request = request
        try:
            allowed = await self._authorization.check(identity, group, request)
        except (AccessDenied, JobHidden) as error:
            hidden = isinstance(error, JobHidden)
            reason = f"the policy does not let {identity.name!r} read this job" if hidden else str(error)
            call.audited.deny(reason, request, error.rule)
            raise
        call.audited.allow(request, allowed.rule, allowed.grant.execution, allowed.spec)
        permit.set(allowed)
        if _may_be_ended(call.method):
            self.standing.add(identity, group, request)

    async def _run(self, method: Method, stream: Stream[Message, Message]) -> None:
        call = _Call(method, stream, self._audit.call(method, caller.get()))
        failure: ErrorReply | None = None
        reader = RequestReader(
            stream, self._bounds, self.requests, call.client, partial(self.turns.turn, call.client)
        )
        try:
            # Counted before the request, which may never arrive.
            if isinstance(method, Unary | Gathered) and not method.counts_as_stream:
                self._calls.enter(call.client)
                try:
                    await self._answer(call, method, reader)
                finally:
                    self._calls.leave(call.client)
            else:
                with self._slots.taken(call.client):
                    await self._serve(call, method, reader)
        except asyncio.CancelledError:
            failure = await _tell_why_ended(stream, self.standing.withdrawn())
            raise
        except StreamClosedError:  # the client is gone; what it has asked for may be done
            failure = _CANCELED if call.reply is None else _GONE
        except Exception as error:  # noqa: BLE001 - error_reply logs unexpected ones
            failure = error_reply(error)
            if isinstance(error, ClientStalled):
                log.warning("%r: ending a call: %s", call.client.name, error)
            await _fail(stream, failure)
        finally:
            reader.close()
            call.audited.end(failure, reply=call.reply)

    async def _serve(self, call: "_Call", method: Method, reader: RequestReader) -> None:
        """Serve a call that may take long."""
        stream = call.stream
        if isinstance(method, Bidirectional | OutputStream):
            turn = partial(self.turns.turn, call.client)
            room = OutputRoom(self._replies, call.client, turn, method.copies)
            output_room.set(room.next_chunk)
        if isinstance(method, Bidirectional):
            opening = await _opening(reader)
            await self._begin(call, opening)
            rest = _counted(receive_rest(stream, method.request), call.audited)
            with reader.input_window():
                await self._exchange(call, method.handler(self._handlers, opening, rest), room)
        elif isinstance(method, Unary | Gathered):
            await self._answer(call, method, reader)
        elif isinstance(method, AnsweredStream):
            await self._answer_each(call, method, reader)
        else:
            most = self._bounds.max_request_size
            data = await reader.receive(most, "max_request_size")
            request = await reader.decode(data, method.request, most)
            await self._begin(call, request)
            if isinstance(method, ServerStream):
                await self._send_replies(stream, method.handler(self._handlers, request))
            else:
                assert isinstance(request, StreamRequest)
                await self._send_output(call, method.handler(self._handlers, request), room)

    async def _answer(self, call: "_Call", method: Unary | Gathered, reader: RequestReader) -> None:
        """Read the request, execute it when it is the client's turn, and send the reply."""
        most, setting = self._bounds.max_request_size, "max_request_size"
        if method.request is StartRequest:
            await self._check_start_by_role(call, reader)
            most, setting = self._bounds.max_start_size, "max_start_size"
        data = await reader.receive(most, setting)
        takes_turns = not method.waits
        if takes_turns:
            await self._calls.begin(call.client)
        try:
            encoded = await self._execute(call, method, await reader.decode(data, method.request, most))
        finally:
            if takes_turns:
                self._calls.end(call.client)
        await send_reply(call.stream, encoded, self._replies, call.client, self._bounds.reply_timeout)
        reached(Step.ANSWERED, _job_of(call.request, call.reply))

    async def _check_start_by_role(self, call: "_Call", reader: RequestReader) -> None:
        """Deny a start that no role allows; record the command, if the request is short and can be read."""
        try:
            self._authorization.check_role(caller.get().identity, call.method.name, call.method.right)
        except AccessDenied as error:
            request = None
            try:
                with suppress(CallRejected, MalformedMessage):
                    data = await reader.receive(SHORT_REQUEST, "")
                    request = await reader.decode(data, StartRequest, SHORT_REQUEST)
            finally:
                call.audited.deny(str(error), request)
            raise

    async def _execute(self, call: "_Call", method: Unary | Gathered, request: Message) -> bytes:
        """Return the encoded reply."""
        await self._begin(call, request)
        if isinstance(method, Unary):
            call.reply = await method.handler(self._handlers, request)
            return encode(call.reply)
        parts = []
        async with aclosing(method.handler(self._handlers, request)) as made:
            async for part in made:
                parts.append(part)
                await self.turns.turn(call.client)
        call.reply = method.reply()
        return b"".join(parts)

    async def _answer_each(self, call: "_Call", method: AnsweredStream, reader: RequestReader) -> None:
        """Answer the requests one after the other, each when it is the client's turn."""
        most, setting = self._bounds.max_request_size, "max_request_size"
        request: Message | None = await reader.decode(
            await reader.receive(most, setting), method.request, most
        )
        assert request is not None
        await self._begin(call, request)
        reader.open_window()
        sender = ReplySender(call.stream, self._bounds.reply_timeout, "reply_timeout")
        async with aclosing(receive_rest(call.stream, method.request, most, setting)) as rest:
            while request is not None:
                await self.turns.turn(call.client)
                reply = encode(await method.handler(self._handlers, request))
                await send_counted(sender, reply, self._replies, call.client)
                async with self._shutdown.interrupts("ask again later"):
                    request = await anext(rest, None)

    async def _send_replies(
        self, stream: Stream[Message, Message], replies: AsyncGenerator[Message, None]
    ) -> None:
        sender = ReplySender(stream, self._bounds.reply_timeout, "reply_timeout")
        async with aclosing(replies):
            async for reply in replies:
                await sender.send_message(reply)

    async def _send_output(
        self, call: "_Call", output: AsyncGenerator[Chunk, None], room: OutputRoom
    ) -> None:
        sender = ReplySender(call.stream, self._bounds.stalled_client_timeout)
        async with aclosing(output) as chunks:
            async for chunk in chunks:
                await sender.send(chunk)
                room.sent()
                call.audited.sent += len(chunk.data)
                del chunk

    async def _exchange(
        self, call: "_Call", responses: AsyncGenerator[AttachResponse, None], room: OutputRoom
    ) -> None:
        sender = ReplySender(call.stream, self._bounds.stalled_client_timeout)
        async with aclosing(responses):
            async for response in responses:
                if response.output is None:
                    await sender.send_message(response)
                else:
                    await sender.send_output(response)
                    room.sent()
                    call.audited.sent += len(response.output.data)
                del response


class _Call:
    """A call while it is served, and its records."""

    def __init__(self, method: Method, stream: Stream[Message, Message], audited: AuditedCall) -> None:
        self.method = method
        self.stream = stream
        self.client = caller.get().identity.client
        self.request: Message | None = None
        self.reply: Message | None = None
        self.audited = audited


def _connection(peer: Peer) -> ServerConnection:
    """Return the connection of a call; grpclib has no method for that."""
    found = peer._transport.get_protocol()  # noqa: SLF001
    assert isinstance(found, ServerConnection)
    return found


def _cardinality(method: Method) -> Cardinality:
    match method:
        case Unary() | Gathered():
            return Cardinality.UNARY_UNARY
        case Bidirectional() | AnsweredStream():
            return Cardinality.STREAM_STREAM
    return Cardinality.UNARY_STREAM


async def _opening(reader: RequestReader) -> AttachOpen:
    """Return the first request of a bidirectional call."""
    data = await reader.receive(MAX_STREAMED_REQUEST, "")
    first = await reader.decode(data, AttachRequest, MAX_STREAMED_REQUEST)
    if first.open is None:
        raise CallRejected(Status.INVALID_ARGUMENT, "the first request must be `open`")
    return first.open


async def _counted(requests: Requests, audited: AuditedCall) -> Requests:
    """Yield the requests, and count the bytes of input in them."""
    async with aclosing(requests):
        async for request in requests:
            if request.input is not None:
                audited.received += len(request.input.data)
            yield request


async def _tell_why_ended(stream: Stream[Message, Message], withdrawn: Exception | None) -> ErrorReply:
    """Answer a call that was cancelled by the server or by its deadline; return how it ended."""
    if reason := _connections.get().refused:
        failure = error_reply(CertificateRefused(reason))
    elif withdrawn is not None:
        failure = error_reply(withdrawn)
    elif stream.deadline is not None and stream.deadline.time_remaining() <= 0:
        failure = ErrorReply(Status.DEADLINE_EXCEEDED, "the call's deadline has passed")
    else:
        return _CANCELED
    with suppress(StreamClosedError):
        await _fail(stream, failure)
    return failure


async def _fail(stream: Stream[Message, Message], failure: ErrorReply) -> None:
    await stream.send_trailing_metadata(
        status=failure.status, status_message=failure.message, metadata=failure.metadata
    )


def _may_be_ended(method: Method) -> bool:
    """Whether a call may go on for long, and nothing that it has begun needs to be completed."""
    return method.waits and method.right in {Right.READ, Right.ATTACH}


def _job_of(request: Message | None, reply: Message | None) -> str:
    """Return the id of the job: `job_id` in every message; that of a Start is in its reply."""
    return str(getattr(reply, "job_id", "") or getattr(request, "job_id", ""))
