"""The one table of methods: name, handler, required right, request and reply of each.

grpc/calls.py serves and authorizes calls by this table; a method that is not in it does not exist.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from betterproto2 import Message

from ..core.model.job import Chunk
from ..proto import health, worker
from .handlers import Handlers
from .roles import Right

# The table gives the types of request and reply for each handler.
UnaryHandler = Callable[[Handlers, Any], Awaitable[Message]]
StreamHandler = Callable[[Handlers, Any], AsyncGenerator[Message, None]]
OutputHandler = Callable[[Handlers, worker.StreamRequest], AsyncGenerator[Chunk, None]]
ExchangeHandler = Callable[
    [Handlers, worker.AttachOpen, AsyncGenerator[worker.AttachRequest, None]],
    AsyncGenerator[worker.AttachResponse, None],
]


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one reply."""

    name: str
    handler: UnaryHandler
    right: Right
    request: type[Message]
    reply: type[Message]
    waits: bool = False
    """Whether it may wait for a job: it takes no turn."""
    counts_as_stream: bool = False
    """Whether it is counted with the streams, not with the other calls."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """One request, one reply that is made in parts: together they are the reply."""

    name: str
    handler: StreamHandler
    right: Right
    request: type[Message]
    reply: type[Message]

    waits = False
    counts_as_stream = False


@dataclass(frozen=True, slots=True)
class ServerStream:
    """One request, any number of replies."""

    name: str
    handler: StreamHandler
    right: Right
    request: type[Message]
    reply: type[Message]


@dataclass(frozen=True, slots=True)
class OutputStream:
    """One request, any number of chunks of output, each sent as a StreamResponse."""

    name: str
    handler: OutputHandler
    right: Right

    request = worker.StreamRequest
    reply = worker.StreamResponse


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """Any number of requests and replies at the same time; the first request opens the exchange."""

    name: str
    handler: ExchangeHandler
    right: Right

    request = worker.AttachRequest
    reply = worker.AttachResponse


Method = Unary | Gathered | ServerStream | OutputStream | Bidirectional

_START = Unary("Start", Handlers.start, Right.WRITE, worker.StartRequest, worker.StartResponse)
_STOP = Unary("Stop", Handlers.stop, Right.WRITE, worker.StopRequest, worker.StopResponse, waits=True)
_QUERY = Unary("Query", Handlers.query, Right.READ, worker.QueryRequest, worker.QueryResponse)
_STREAM = OutputStream("Stream", Handlers.stream, Right.READ)
_TEXT = OutputStream("Stream", Handlers.stream_text, Right.READ)
_ATTACH = Bidirectional("Attach", Handlers.attach, Right.ATTACH)
_LIST = Gathered("List", Handlers.list, Right.READ, worker.ListRequest, worker.ListResponse)
_WAIT = Unary(
    "Wait",
    Handlers.wait,
    Right.READ,
    worker.WaitRequest,
    worker.WaitResponse,
    waits=True,
    counts_as_stream=True,
)
_UPDATE = Unary("Update", Handlers.update, Right.WRITE, worker.UpdateRequest, worker.UpdateResponse)
_REMOVE = Unary("Remove", Handlers.remove, Right.WRITE, worker.RemoveRequest, worker.RemoveResponse)
_SIGNAL = Unary("Signal", Handlers.signal, Right.WRITE, worker.SignalRequest, worker.SignalResponse)
_PAUSE = Unary("Pause", Handlers.pause, Right.WRITE, worker.PauseRequest, worker.PauseResponse)
_RESUME = Unary("Resume", Handlers.resume, Right.WRITE, worker.ResumeRequest, worker.ResumeResponse)
_CHECK = Unary(
    "Check", Handlers.check_health, Right.READ, health.HealthCheckRequest, health.HealthCheckResponse
)
_WATCH = ServerStream(
    "Watch", Handlers.watch_health, Right.READ, health.HealthCheckRequest, health.HealthCheckResponse
)

SERVICES: Mapping[str, tuple[Method, ...]] = {
    "worker.v1.WorkerService": (
        _START,
        _STOP,
        _QUERY,
        _STREAM,
        _ATTACH,
        _LIST,
        _WAIT,
        _UPDATE,
        _REMOVE,
        _SIGNAL,
        _PAUSE,
        _RESUME,
    ),
    # The original API: no package, and text instead of bytes.
    "WorkerService": (_START, _STOP, _QUERY, _TEXT),
    "grpc.health.v1.Health": (_CHECK, _WATCH),
}

METHODS: Mapping[str, Method] = {
    f"/{service}/{method.name}": method for service, methods in SERVICES.items() for method in methods
}
