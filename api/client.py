"""The client: the methods of the API over values of the core."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from errno import ECONNREFUSED
from socket import gaierror
from types import TracebackType
from typing import Self

from grpclib.client import Channel as GrpcChannel
from grpclib.client import Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.events import RecvTrailingMetadata, listen
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol

from ..core.errors import WorkerError
from ..core.model.ending import Channel
from ..core.model.job import (
    Chunk,
    JobId,
    JobSpec,
    JobStatus,
    parse_job_id,
)
from ..core.model.limits import ResourceLimits
from ..core.model.stream_start import BEGINNING, StreamStart
from ..proto import worker
from . import tls, translate
from .grpc.connections import CLOSE_PATIENCE, Connection, cancellation_taken_back
from .grpc.receiving import ReceivingConnection
from .grpc.status import ERRNO_KEY, code_name
from .wire.codec import MalformedMessage, MessageCodec

CONNECT_TIMEOUT = 10.0

# A server that vanished without a word is noticed by calls that wait for it.
_KEEPALIVE = Configuration(
    _keepalive_time=20.0,
    _keepalive_timeout=20.0,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=10.0,
)


class RpcError(Exception):
    """The server refused or failed; ``code`` is the status as Go prints it, such as NotFound.

    ``errno`` is set when a command could not be executed.
    """

    def __init__(self, code: str, message: str, errno: int | None = None) -> None:
        super().__init__(f"rpc error: code = {code} desc = {message}")
        self.code = code
        self.message = message
        self.errno = errno


class ServerUnreachable(Exception):
    """There is no talking to the server; the message is one line with address and reason.

    ``lost`` tells that there was a connection, which broke; ``silent`` that the server had said
    nothing over it: it died just then, or refuses this client's certificate.
    """

    def __init__(self, address: str, reason: str, *, lost: bool = False, silent: bool = False) -> None:
        super().__init__(f"cannot reach the server at {address}: {reason}")
        self.address = address
        self.reason = reason
        self.lost = lost
        self.silent = silent


class _Channel(GrpcChannel):
    """grpclib's channel, over connections that can be awaited."""

    current: Connection | None = None

    def _protocol_factory(self) -> Connection:
        made = super()._protocol_factory()
        self.current = ReceivingConnection(made.handler, made.config, made.h2_config)
        return self.current

    async def _create_connection(self) -> H2Protocol:
        """Connect as grpclib does, but give a server that has vanished no 30 s for its good-bye."""
        _, protocol = await self._loop.create_connection(
            self._protocol_factory,
            self._host,
            self._port,
            ssl=self._ssl,
            server_hostname=self._config.ssl_target_name_override,
            ssl_shutdown_timeout=CLOSE_PATIENCE,
        )
        return protocol


class Client:
    """A connection to a server, made with the first call; an async context manager.

    A job is given as the text of its id. Every method raises RpcError and ServerUnreachable.
    """

    def __init__(self, host: str, port: int, ssl_context: ssl.SSLContext) -> None:
        self._host = host
        self._port = port
        self._ssl_context = ssl_context

    @property
    def address(self) -> str:
        """Where the server is, as HOST:PORT."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def __aenter__(self) -> Self:
        self._channel = _Channel(
            self._host, self._port, codec=MessageCodec(), ssl=self._ssl_context, config=_KEEPALIVE
        )
        listen(self._channel, RecvTrailingMetadata, _raise_failure)
        self._worker = worker.WorkerServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection = self._channel.current
        self._channel.close()
        if connection is not None:
            # Whatever was asked is answered by now; the server's good-bye would be one more round trip.
            await connection.end(patience=0)

    async def start(self, spec: JobSpec, *, request_id: str = "") -> JobId:
        """Start a job and return its id; repeated with the same request id it gives the same job."""
        async with self._errors_translated():
            reply = await self._worker.start(translate.start_request(spec, request_id))
            return parse_job_id(reply.job_id)

    async def stop(self, job: str, *, signal: int | None = None, grace: float | None = None) -> None:
        """End a job: ``signal`` (SIGTERM), after ``grace`` seconds SIGKILL. Returns when it is over."""
        request = worker.StopRequest(job_id=job, signal=signal, grace_ms=translate.milliseconds(grace))
        async with self._errors_translated():
            await self._worker.stop(request)

    async def query(self, job: str) -> JobStatus:
        """Return what is known about a job; its environment, grace and the like only as far as told."""
        async with self._errors_translated():
            return translate.job_status(await self._worker.query(worker.QueryRequest(job_id=job)))

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job that carries all ``labels``; with ``running`` only those not over."""
        request = worker.ListRequest(labels=dict(labels or {}), running=running)
        async with self._errors_translated():
            return [translate.job_status(each) for each in (await self._worker.list(request)).jobs]

    async def wait(self, job: str) -> JobStatus:
        """Return the status of a job once it is over."""
        async with self._errors_translated():
            reply = await self._worker.wait(worker.WaitRequest(job_id=job))
            return translate.job_status(worker.QueryResponse() if reply.job is None else reply.job)

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change the limits of a running job to those that ``changes`` sets; the others stay."""
        async with self._errors_translated():
            await self._worker.update(translate.update_request(job, changes))

    async def remove(self, job: str) -> None:
        """Have the server forget a job that is over, with its output."""
        async with self._errors_translated():
            await self._worker.remove(worker.RemoveRequest(job_id=job))

    async def stream(
        self,
        job: str,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output from ``start``; with ``follow`` until the job is over."""
        request = translate.stream_request(job, channel, start, follow=follow)
        # The generated stub would leave its call open when this generator is closed.
        call = self._channel.request(
            "/worker.v1.WorkerService/Stream",
            Cardinality.UNARY_STREAM,
            worker.StreamRequest,
            worker.StreamResponse,
        )
        async with self._errors_translated(), call as replies:
            await replies.send_message(request, end=True)
            while (reply := await _next(replies)) is not None:
                yield Chunk(reply.offset, reply.output)
            # By itself grpclib does not look at the status once the connection is being closed.
            await replies.recv_trailing_metadata()

    async def health(self) -> bool:
        """Whether the server serves."""
        from ..proto import health  # noqa: PLC0415 - few clients ever ask, and all would wait for it

        async with self._errors_translated():
            reply = await health.HealthStub(self._channel).check(health.HealthCheckRequest())
            return reply.status is health.HealthCheckResponseServingStatus.SERVING

    @asynccontextmanager
    async def _errors_translated(self) -> AsyncIterator[None]:
        """Connect, and let no error of the layers below through."""
        await self._connect()
        try:
            with cancellation_taken_back():
                yield
        except GRPCError as error:
            raise RpcError(code_name(error.status), error.message or "no reason given") from None
        except StreamTerminatedError as error:
            raise self._unreachable(self._lost(str(error)), lost=True) from None
        except OSError as error:
            raise self._unreachable(_reason(error), lost=True) from error
        except UnicodeEncodeError:
            raise RpcError("InvalidArgument", "the request contains text that is not Unicode") from None
        except (MalformedMessage, WorkerError) as error:
            raise RpcError("Internal", f"the server's reply makes no sense: {error}") from error

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._channel.__connect__()
        except TimeoutError:
            raise self._unreachable(f"no answer within {CONNECT_TIMEOUT:g} s") from None
        except OSError as error:
            lost = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
            raise self._unreachable(_reason(error), lost=lost) from error

    def _unreachable(self, reason: str, *, lost: bool = False) -> ServerUnreachable:
        return ServerUnreachable(self.address, reason, lost=lost, silent=lost and not self._heard)

    @property
    def _heard(self) -> bool:
        """Whether the server has said anything over the present connection."""
        connection = self._channel.current
        return connection is not None and connection.heard

    def _lost(self, reason: str) -> str:
        """Return why the connection went away.

        In TLS 1.3 the client is done with its handshake before the server has looked at its
        certificate; a refusal is a connection that is closed before the server said anything.
        """
        if self._channel.current is None or self._heard:
            return reason[:1].lower() + reason[1:]
        return "it refuses this client's certificate: " + (
            _dates(self._ssl_context) or "missing, expired, revoked or of another CA"
        )


async def _next(
    replies: Stream[worker.StreamRequest, worker.StreamResponse],
) -> worker.StreamResponse | None:
    """Return the next reply, or None when the status follows."""
    try:
        return await replies.recv_message()
    except AssertionError:  # how grpclib says that the server ended the stream within a message
        return None


async def _raise_failure(event: RecvTrailingMetadata) -> None:
    """Raise what the server says, with the errno that travels beside it."""
    if event.status is not Status.OK:
        errno = str(event.metadata.get(ERRNO_KEY, ""))
        raise RpcError(
            code_name(event.status),
            event.status_message or "no reason given",
            int(errno) if errno.isdecimal() else None,
        )


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {error.reason or error}"
    if isinstance(error, gaierror):
        return f"{error.strerror}"
    # With several addresses asyncio joins the errors in one text.
    if error.errno == ECONNREFUSED or f"[Errno {ECONNREFUSED}]" in str(error):
        return "connection refused; `worker up` starts a server"
    return error.strerror or str(error)


def _dates(context: ssl.SSLContext) -> str | None:
    """Say so if the client's own certificate is out of its dates."""
    if not isinstance(context, tls.ClientContext):
        return None
    try:
        first, last = tls.validity(context.certificate)
    except (OSError, ValueError):
        return None
    now = datetime.now(UTC)
    if now > last:
        return f"{context.certificate} expired on {last:%Y-%m-%d}"
    if now < first:
        return f"{context.certificate} is not valid before {first:%Y-%m-%d %H:%M} UTC"
    return None
