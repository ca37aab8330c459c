"""The one table of methods: name, group of calls, handler, request and reply of each.

grpc/calls.py serves and authorizes calls by this table; a method that is not in it does not exist.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from betterproto2 import Message

from ..core.model.job import Chunk
from ..core.policy.calls import CallGroup
from ..proto import health, reflection, worker
from .handlers import Handlers
from .roles import RIGHTS, Right

# The table gives the types of request and reply for each handler.
UnaryHandler = Callable[[Handlers, Any], Awaitable[Message]]
GatheredHandler = Callable[[Handlers, Any], AsyncGenerator[bytes, None]]
StreamHandler = Callable[[Handlers, Any], AsyncGenerator[Message, None]]
OutputHandler = Callable[[Handlers, worker.StreamRequest], AsyncGenerator[Chunk, None]]
ExchangeHandler = Callable[
    [Handlers, worker.AttachOpen, AsyncGenerator[worker.AttachRequest, None]],
    AsyncGenerator[worker.AttachResponse, None],
]


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    group: CallGroup

    @property
    def right(self) -> Right | None:
        """The right that a role of the caller must have; None: every certificate may call it."""
        return RIGHTS[self.group]


@dataclass(frozen=True, slots=True)
class Unary(_Named):
    """One request, one reply."""

    handler: UnaryHandler
    request: type[Message]
    reply: type[Message]
    waits: bool = False
    """Whether it may wait for a job: it takes no turn."""
    counts_as_stream: bool = False
    """Whether it is counted with the streams, not with the other calls."""


@dataclass(frozen=True, slots=True)
class Gathered(_Named):
    """One request, one reply that is made in parts: together their bytes are the reply."""

    handler: GatheredHandler
    request: type[Message]
    reply: type[Message]

    waits = False
    counts_as_stream = False


@dataclass(frozen=True, slots=True)
class ServerStream(_Named):
    """One request, any number of replies."""

    handler: StreamHandler
    request: type[Message]
    reply: type[Message]

    waits = True


@dataclass(frozen=True, slots=True)
class OutputStream(_Named):
    """One request, any number of chunks of output, each sent as a StreamResponse."""

    handler: OutputHandler
    copies: int
    """How many times the output of a chunk may be in memory at once."""

    request = worker.StreamRequest
    reply = worker.StreamResponse
    waits = True


@dataclass(frozen=True, slots=True)
class Bidirectional(_Named):
    """Any number of requests and replies at the same time; the first request opens the exchange."""

    handler: ExchangeHandler

    request = worker.AttachRequest
    reply = worker.AttachResponse
    waits = True
    copies = 2
    """As of an OutputStream: the chunk, and the message that is sent."""


@dataclass(frozen=True, slots=True)
class AnsweredStream(_Named):
    """Any number of requests, each answered by one reply before the next one is read."""

    handler: UnaryHandler
    request: type[Message]
    reply: type[Message]

    waits = True


@dataclass(frozen=True, slots=True)
class Open(Unary):
    """A unary method that every certificate may call."""

    @property
    def right(self) -> None:
        """No right is needed."""
        return None


Method = Unary | Gathered | ServerStream | OutputStream | Bidirectional | AnsweredStream

_START = Unary("Start", CallGroup.START, Handlers.start, worker.StartRequest, worker.StartResponse)
_STOP = Unary("Stop", CallGroup.STOP, Handlers.stop, worker.StopRequest, worker.StopResponse, waits=True)
_QUERY = Unary("Query", CallGroup.READ, Handlers.query, worker.QueryRequest, worker.QueryResponse)
# A part with one time is a second copy; text has three bytes for each one that is not UTF-8, and a message.
_STREAM = OutputStream("Stream", CallGroup.OUTPUT, Handlers.stream, copies=2)
_TEXT = OutputStream("Stream", CallGroup.OUTPUT, Handlers.stream_text, copies=5)
_ATTACH = Bidirectional("Attach", CallGroup.ATTACH, Handlers.attach)
_LIST = Gathered("List", CallGroup.READ, Handlers.list, worker.ListRequest, worker.ListResponse)
_WAIT = Unary(
    "Wait",
    CallGroup.READ,
    Handlers.wait,
    worker.WaitRequest,
    worker.WaitResponse,
    waits=True,
    counts_as_stream=True,
)
_UPDATE = Unary("Update", CallGroup.UPDATE, Handlers.update, worker.UpdateRequest, worker.UpdateResponse)
_REMOVE = Unary("Remove", CallGroup.REMOVE, Handlers.remove, worker.RemoveRequest, worker.RemoveResponse)
_SIGNAL = Unary("Signal", CallGroup.SIGNAL, Handlers.signal, worker.SignalRequest, worker.SignalResponse)
_PAUSE = Unary("Pause", CallGroup.SIGNAL, Handlers.pause, worker.PauseRequest, worker.PauseResponse)
_RESUME = Unary("Resume", CallGroup.SIGNAL, Handlers.resume, worker.ResumeRequest, worker.ResumeResponse)
_WHO_AM_I = Open("WhoAmI", CallGroup.READ, Handlers.who_am_i, worker.WhoAmIRequest, worker.WhoAmIResponse)
_CHECK = Unary(
    "Check", CallGroup.READ, Handlers.check_health, health.HealthCheckRequest, health.HealthCheckResponse
)
_WATCH = ServerStream(
    "Watch", CallGroup.READ, Handlers.watch_health, health.HealthCheckRequest, health.HealthCheckResponse
)
_REFLECT = AnsweredStream(
    "ServerReflectionInfo",
    CallGroup.READ,
    Handlers.reflect,
    reflection.ServerReflectionRequest,
    reflection.ServerReflectionResponse,
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
        _WHO_AM_I,
    ),
    # The original API: no package, and text instead of bytes.
    "WorkerService": (_START, _STOP, _QUERY, _TEXT),
    "grpc.health.v1.Health": (_CHECK, _WATCH),
    "grpc.reflection.v1.ServerReflection": (_REFLECT,),
    "grpc.reflection.v1alpha.ServerReflection": (_REFLECT,),
}

METHODS: Mapping[str, Method] = {
    f"/{service}/{method.name}": method for service, methods in SERVICES.items() for method in methods
}
