"""The server's connections: how requests reach grpclib, without its listening Server.

That Server cancels all calls when it is closed, and from Python 3.12 it waits for idle clients for
ever. Here each connection is made separately, and two gaps of grpclib's request handling are closed.
"""

from collections.abc import Callable
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
from h2.errors import ErrorCodes

from ..audit import ApiAudit
from ..bounds import Bounds, ConnectionSlots
from ..ends_of_validity import ClientExpiries
from ..refusal_log import RefusalLog
from ..trust import Trust
from .calls import Calls
from .codec import MessageCodec
from .server_connection import ServerConnection, Shared

OTHER_CALLS = 100
"""Calls that one connection may have open in addition to the maximum of streams of its client. A client
that reaches a limit of HTTP/2 waits without an error, with all of its calls, until a stream ends."""

_UNBOUNDED = (1 << 31) - 1

_DEFAULT_WINDOW = 65535
"""Of HTTP/2; `ServerConnection` sets a smaller one."""

Headers = list[tuple[str, str]]


class ServerConnections:
    """Makes the server's side of connections, all with the same methods."""

    def __init__(
        self,
        calls: Calls,
        bounds: Bounds,
        trust: Callable[[], Trust],
        refusals: RefusalLog,
        expiries: ClientExpiries,
        audit: ApiAudit,
    ) -> None:
        self._methods = _Methods(calls.methods())
        self._shared = Shared(
            bounds,
            ConnectionSlots(bounds),
            calls.requests,
            calls.turns,
            trust,
            refusals,
            expiries,
            audit,
            most_calls=min(bounds.max_streams_per_client + OTHER_CALLS, _UNBOUNDED),
        )
        self._codec = MessageCodec()
        self._events = _DispatchServerEvents()
        self._events.add_listener(RecvRequest, calls.admit)  # type: ignore[arg-type] # as grpclib.events.listen
        self._config = _configuration(bounds).__for_server__()
        self._h2_config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",  # decodes any byte
            validate_inbound_headers=False,  # _is_request does it in a fraction of the time
            normalize_inbound_headers=False,  # it concerns cookies
            validate_outbound_headers=False,  # they are ours, and in order
            normalize_outbound_headers=False,
        )

    def make(self) -> ServerConnection:
        """Return the protocol for a new connection."""
        handler = _RequestHandler(self._methods, self._codec, self._events)
        return ServerConnection(handler, self._config, self._h2_config, self._shared)


def _configuration(bounds: Bounds) -> Configuration:
    """Ping clients, idle ones included, to detect those that vanished without closing their connection.

    The window of the connection is without bound, so that a call whose request waits for memory does not
    stop other calls; each call has a small one.
    """
    return Configuration(
        http2_connection_window_size=_UNBOUNDED,
        http2_stream_window_size=_DEFAULT_WINDOW,
        _keepalive_time=bounds.keepalive_time,
        _keepalive_timeout=bounds.keepalive_timeout,
        _keepalive_permit_without_calls=True,
        _http2_max_pings_without_data=0,
        _http2_min_sent_ping_interval_without_data=bounds.keepalive_time / 3,
    )


class _Methods(dict[str, MethodHandler]):
    """Returns a handler for every path, so that admission rejects methods that do not exist.

    grpclib's own rejection lacks the content-type, and clients report it as UNKNOWN.
    """

    def get(self, path: str, default: object = None) -> MethodHandler:
        """Return the handler of a method, or one that is never called."""
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
        """Run a request; reset a stream that is none."""
        if not _is_request(headers):
            stream.reset_nowait(ErrorCodes.PROTOCOL_ERROR)
            release_stream()
            return
        self._releases[stream] = release_stream
        super().accept(stream, _readable(headers), partial(self._release, stream))

    def cancel(self, stream: Stream) -> None:
        """Cancel a request that the client has reset.

        A task that is cancelled before its first step does not run its cleanup.
        """
        super().cancel(stream)
        self._release(stream)

    def close(self) -> None:
        """Cancel all requests."""
        super().close()
        for stream in self._releases:
            stream.buffer.close()  # type: ignore[attr-defined] # it is a RequestBuffer

    def _release(self, stream: Stream) -> None:
        if release := self._releases.pop(stream, None):
            stream.buffer.close()  # type: ignore[attr-defined] # it is a RequestBuffer
            release()


_PSEUDO_HEADERS = frozenset({":method", ":scheme", ":path", ":authority"})


def _is_request(headers: Headers) -> bool:
    """Whether headers are those of a request, as far as we use them (RFC 9113, section 8.3)."""
    pseudo = [name for name, _ in headers if name.startswith(":")]
    found = {*pseudo, ":authority"}
    return len(pseudo) == len(set(pseudo)) and found == _PSEUDO_HEADERS and _names_are_lower(headers)


def _names_are_lower(headers: Headers) -> bool:
    names = "".join([name for name, _ in headers])
    return names == names.lower()


def _readable(headers: Headers) -> Headers:
    """Return headers that grpclib can process.

    Binary metadata is not used here, and a value that is not base64 would leave the call unanswered.
    """
    return [
        (name, _not_yet_passed(value) if name == "grpc-timeout" else value)
        for name, value in headers
        if not name.endswith("-bin")
    ]


def _not_yet_passed(timeout: str) -> str:
    """Return at least 50 ms: grpclib answers UNKNOWN if a deadline has passed before it checks it."""
    try:
        return timeout if decode_timeout(timeout) >= 0.05 else "50m"
    except ValueError:
        return timeout
