"""The client: the methods of the API over values of the core."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from errno import ECONNREFUSED
from socket import gaierror
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from ..api import translate
from ..api.grpc.channel import Channel as GrpcChannel
from ..api.grpc.channel import ConnectionLost, RpcError, errors_translated
from ..api.wire.decoding import MalformedMessage
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
from ..core.model.stream_times import ANY_TIME, StreamTimes
from ..proto import worker

if TYPE_CHECKING:
    from ..api.who_am_i import WhoAmI
    from .attachment import AttachCall

__all__ = ["CONNECT_TIMEOUT", "Client", "RpcError", "ServerUnreachable"]

CONNECT_TIMEOUT = 10.0


class ServerUnreachable(Exception):
    """The server cannot be reached; the message is one line with address and reason.

    ``lost``: there was a connection, and it broke. ``silent``: the server had sent nothing over it; it
    died at that moment, or it rejects this client's certificate.
    """

    def __init__(self, address: str, reason: str, *, lost: bool = False, silent: bool = False) -> None:
        super().__init__(f"cannot reach the server at {address}: {reason}")
        self.address = address
        self.reason = reason
        self.lost = lost
        self.silent = silent


class Client:
    """A connection to a server, made by the first call; an async context manager.

    A job is identified by the text of its id. Every method raises RpcError and ServerUnreachable.
    """

    def __init__(self, host: str, port: int, ssl_context: ssl.SSLContext) -> None:
        self._host = host
        self._port = port
        self._ssl_context = ssl_context

    @property
    def address(self) -> str:
        """The server's address as HOST:PORT."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def __aenter__(self) -> Self:
        self._channel = GrpcChannel(self._host, self._port, self._ssl_context)
        self._channel.raise_statuses()
        self._worker = worker.WorkerServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # All calls are answered by now; waiting for the server to close would cost a round trip.
        await self._channel.disconnect()

    async def start(
        self,
        spec: JobSpec,
        *,
        request_id: str = "",
        secrets: Mapping[str, bytes] = MappingProxyType({}),
    ) -> JobId:
        """Start a job and return its id; with the same request id again, the same job."""
        async with self._errors_translated():
            reply = await self._worker.start(translate.start_request(spec, request_id, secrets))
            return parse_job_id(reply.job_id)

    async def stop(
        self,
        job: str,
        *,
        signal: int | None = None,
        grace: float | None = None,
        signal_all: bool = False,
    ) -> int:
        """Stop a job: ``signal`` (SIGTERM), after ``grace`` seconds SIGKILL; return when it is finished.

        Returns how many bytes of the end of its output could not be recorded: a full disk delays no stop.
        ``signal_all``: every process gets the signal at once, not the main process first.
        """
        request = worker.StopRequest(
            job_id=job, signal=signal, grace_ms=translate.milliseconds(grace), signal_all=signal_all
        )
        async with self._errors_translated():
            reply = await self._worker.stop(request)
            return reply.output_missing

    async def signal(self, job: str, number: int, *, all_processes: bool = False) -> None:
        """Send a signal to the main process of a job, or to all, and do nothing else.

        Whether it was sent is unknown if the connection is lost.
        """
        request = worker.SignalRequest(job_id=job, signal=number, all=all_processes)
        async with self._errors_translated():
            await self._worker.signal(request)

    async def pause(self, job: str) -> None:
        """Freeze all processes of a job; idempotent."""
        async with self._errors_translated():
            await self._worker.pause(worker.PauseRequest(job_id=job))

    async def resume(self, job: str) -> None:
        """Let the processes of a paused job continue; idempotent."""
        async with self._errors_translated():
            await self._worker.resume(worker.ResumeRequest(job_id=job))

    async def query(self, job: str) -> JobStatus:
        """Return the status of a job; the server does not send its environment."""
        async with self._errors_translated():
            return translate.job_status(await self._worker.query(worker.QueryRequest(job_id=job)))

    async def list(
        self, *, labels: Mapping[str, str] | None = None, running: bool = False
    ) -> list[JobStatus]:
        """Return every job that has all ``labels``; with ``running`` only those that are not finished."""
        request = worker.ListRequest(labels=dict(labels or {}), running=running)
        async with self._errors_translated():
            return [translate.job_status(each) for each in (await self._worker.list(request)).jobs]

    async def wait(self, job: str) -> JobStatus:
        """Return the status of a job once it is finished."""
        async with self._errors_translated():
            reply = await self._worker.wait(worker.WaitRequest(job_id=job))
            return translate.job_status(worker.QueryResponse() if reply.job is None else reply.job)

    async def update(self, job: str, changes: ResourceLimits) -> None:
        """Change those limits of a running job that ``changes`` sets."""
        async with self._errors_translated():
            await self._worker.update(translate.update_request(job, changes))

    async def remove(self, job: str) -> None:
        """Remove a finished job and its output."""
        async with self._errors_translated():
            await self._worker.remove(worker.RemoveRequest(job_id=job))

    async def stream(
        self,
        job: str,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield a job's output from ``start``; with ``follow`` until the job is finished."""
        request = translate.stream_request(job, channel, start, times, follow=follow)
        call = self._channel.replies("/worker.v1.WorkerService/Stream", request, worker.StreamResponse)
        async with self._errors_translated(), aclosing(call) as replies:
            async for reply in replies:
                yield Chunk(reply.offset, reply.output, reply.time_ms)

    @asynccontextmanager
    async def attach(
        self,
        job: str,
        *,
        session: str | None = None,
        resume: bool = False,
        output: Mapping[Channel, StreamStart],
    ) -> AsyncIterator["AttachCall"]:
        """Open a call that gets ``output`` from these starts on, and writes to stdin if it has a session.

        The session is a text that only this client knows: with the same one again, and ``resume``, another
        call continues after a lost connection. `Attachment` does all of it.
        """
        from .attachment import AttachCall  # noqa: PLC0415 - as in health

        made = self._channel.call(
            "/worker.v1.WorkerService/Attach", worker.AttachRequest, worker.AttachResponse
        )
        async with self._errors_translated(), made as stream:
            call = AttachCall(stream)
            await call.open(job, session, output, resume=resume)
            yield call

    async def who_am_i(self) -> "WhoAmI":
        """Return who this client is to the server, and which calls it may make."""
        from ..api.who_am_i import from_message  # noqa: PLC0415 - as in health

        async with self._errors_translated():
            return from_message(await self._worker.who_am_i(worker.WhoAmIRequest()))

    async def health(self, service: str = "") -> bool:
        """Whether the server is serving; with a service, whether that works (api/handlers.py)."""
        from ..proto import health  # noqa: PLC0415 - few clients need it, and it delays the start of all

        async with self._errors_translated():
            reply = await health.HealthStub(self._channel).check(health.HealthCheckRequest(service=service))
            return reply.status is health.HealthCheckResponseServingStatus.SERVING

    @asynccontextmanager
    async def _errors_translated(self) -> AsyncIterator[None]:
        """Connect, and raise RpcError and ServerUnreachable for the errors of the layers below."""
        await self._connect()
        try:
            with errors_translated():
                yield
        except ConnectionLost as error:
            raise self._unreachable(self._why_lost(str(error)), lost=True) from None
        except OSError as error:
            raise self._unreachable(_reason(error), lost=True) from error
        except UnicodeEncodeError:
            raise RpcError("InvalidArgument", "the request contains text that is not Unicode") from None
        except (MalformedMessage, WorkerError) as error:
            raise RpcError("Internal", f"the server's reply is invalid: {error}") from error

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._channel.connect()
        except TimeoutError:
            raise self._unreachable(f"no answer within {CONNECT_TIMEOUT:g} s") from None
        except OSError as error:
            lost = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
            raise self._unreachable(_reason(error), lost=lost) from error

    def _unreachable(self, reason: str, *, lost: bool = False) -> ServerUnreachable:
        return ServerUnreachable(
            self.address, reason, lost=lost, silent=lost and not self._channel.has_received
        )

    def _why_lost(self, reason: str) -> str:
        """Return why the connection was lost.

        In TLS 1.3 the client completes its handshake before the server has checked the client's
        certificate; a server that rejects it closes the connection before it has sent anything.
        """
        if self._channel.current is None or self._channel.has_received:
            return reason[:1].lower() + reason[1:]
        from .own_certificate import why_refused  # noqa: PLC0415 - as in health

        alert = self._channel.current.end_reason
        return f"it rejects this client's certificate: {why_refused(self._ssl_context, alert)}"


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
