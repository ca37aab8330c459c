"""How requests get to grpclib: with two of its gaps closed, and without its listening Server.

That Server cancels all calls when it is closed, and from Python 3.12 it waits for idle
clients for ever; here connections are made one by one.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from grpclib.config import Configuration
from grpclib.const import Cardinality
from grpclib.const import Handler as MethodHandler
from grpclib.encoding.base import CodecBase
from grpclib.events import RecvRequest, _DispatchServerEvents
from grpclib.metadata import decode_timeout
from grpclib.protocol import Stream
from grpclib.server import Handler
from h2.config import H2Configuration

from ..wire.codec import MessageCodec
from .connections import Connection

_READ_BUFFER = 16384
"""Bytes read at once from a client: its requests are short, and a thousand clients may be idle."""

Headers = list[tuple[str, str]]


class _Methods(dict[str, MethodHandler]):
    """Has a handler for every path, so that admission refuses what does not exist.

    grpclib's own refusal lacks the content-type, and clients take it for UNKNOWN.
    """

    def get(self, path: str, default: object = None) -> MethodHandler:
        """Return the handler of a method, or one that is never reached."""
        del default
        return super().get(path) or MethodHandler(None, Cardinality.UNARY_UNARY, None, None)


class _RequestHandler(Handler):
    """Runs the requests of one connection."""

    def __init__(
        self, mapping: dict[str, MethodHandler], codec: CodecBase, dispatch: _DispatchServerEvents
    ) -> None:
        super().__init__(mapping, codec, None, dispatch)
        self._releases: dict[Stream, Callable[[], None]] = {}

    def accept(self, stream: Stream, headers: Headers, release_stream: Callable[[], None]) -> None:
        """Run a request."""
        self._releases[stream] = release_stream
        super().accept(stream, _understood(headers), partial(self._release, stream))

    def cancel(self, stream: Stream) -> None:
        """Give up a request that the client has reset.

        A task that is cancelled before its first step never comes to what it would do at its end.
        """
        super().cancel(stream)
        self._release(stream)

    def _release(self, stream: Stream) -> None:
        if release := self._releases.pop(stream, None):
            release()


def _understood(headers: Headers) -> Headers:
    """Return headers that grpclib does not stumble over.

    Nothing here reads binary metadata, and a value that is not base64 would leave the call unanswered.
    """
    return [
        (name, _lasting(value) if name == "grpc-timeout" else value)
        for name, value in headers
        if not name.endswith("-bin")
    ]


def _lasting(timeout: str) -> str:
    """Return a timeout that has not passed before grpclib looks at it: that it answers with UNKNOWN."""
    try:
        return timeout if decode_timeout(timeout) >= 0.05 else "50m"
    except ValueError:
        return timeout


class Connections:
    """Makes the server's side of connections, over one set of methods."""

    def __init__(
        self,
        methods: Mapping[str, MethodHandler],
        admit: Callable[[RecvRequest], Awaitable[None]],
        config: Configuration,
        *,
        most_calls: int,
    ) -> None:
        self._methods = _Methods(methods)
        self._most_calls = most_calls
        self._codec = MessageCodec()
        self._events = _DispatchServerEvents()
        self._events.add_listener(RecvRequest, admit)  # type: ignore[arg-type] # as grpclib.events.listen does
        self._config = config.__for_server__()
        self._h2_config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",  # any byte is text in it
            validate_outbound_headers=False,  # they are ours, and in order
            normalize_outbound_headers=False,
        )

    def make(self) -> Connection:
        """Return the protocol for a new connection."""
        handler = _RequestHandler(self._methods, self._codec, self._events)
        return Connection(
            handler,
            self._config,
            self._h2_config,
            read_buffer=_READ_BUFFER,
            most_calls=self._most_calls,
        )
