"""The handlers of the methods: translate the request, call the Worker, translate the result.

The caller, with its certificate and address, is in a context variable, set before a handler runs. Errors
propagate; errors.py defines the client's status for each.
"""

import asyncio
import codecs
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial

from ..core.audit.trail import AuditTrail
from ..core.model.job import Chunk, parse_job_id
from ..core.model.stream_start import FromOffset
from ..core.worker import Worker
from ..proto.health import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
)
from ..proto.reflection import ServerReflectionRequest, ServerReflectionResponse
from ..proto.worker import (
    AttachOpen,
    AttachResponse,
    ListRequest,
    PauseRequest,
    PauseResponse,
    QueryRequest,
    QueryResponse,
    RemoveRequest,
    RemoveResponse,
    ResumeRequest,
    ResumeResponse,
    SignalRequest,
    SignalResponse,
    StartRequest,
    StartResponse,
    StopRequest,
    StopResponse,
    StreamRequest,
    UpdateRequest,
    UpdateResponse,
    WaitRequest,
    WaitResponse,
    WhoAmIRequest,
    WhoAmIResponse,
)
from . import list_pages, translate, who_am_i
from .attach_handler import AttachHandler, Requests
from .authorization import Authorization, permit
from .bounds import Bounds, check_start
from .errors import CallRejected
from .fairness import RoundRobin
from .grpc.framing import MESSAGE_SIZE
from .grpc.status import Status
from .health_services import AUDIT_SERVICE, SERVICES
from .identity import ANONYMOUS_CALLER, Caller
from .output_room import output_room
from .reflection import Reflection
from .shutdown import Shutdown, ShuttingDown

caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS_CALLER)
"""The client whose call is being handled."""


class Handlers:
    """One handler per method of the API."""

    def __init__(
        self,
        worker: Worker,
        shutdown: Shutdown,
        bounds: Bounds | None = None,
        turns: RoundRobin | None = None,
        audit: AuditTrail | None = None,
        authorization: Authorization | None = None,
        reflection: Reflection | None = None,
    ) -> None:
        self._worker = worker
        self._audit = audit or AuditTrail()
        self._shutdown = shutdown
        self._bounds = bounds or Bounds()
        self._turns = turns or RoundRobin()
        self._authorization = authorization or Authorization(worker)
        self._reflection = reflection

    async def start(self, request: StartRequest) -> StartResponse:
        """Start a job owned by the caller."""
        check_start(request.request_id, request.labels, self._bounds)
        allowed = permit.get()
        spec = allowed.spec or translate.job_spec(request)
        owner = caller.get().identity
        job = await self._worker.start(
            spec,
            owner=owner.name,
            issuer=owner.issuer,
            request_id=request.request_id,
            secrets=translate.secrets(request),
            grant=allowed.grant,
        )
        return StartResponse(job_id=str(job))

    async def stop(self, request: StopRequest) -> StopResponse:
        """Stop a job and return when it is finished. The stop continues if the client disconnects."""
        job = parse_job_id(request.job_id)
        async with self._shutdown.interrupts("the stop continues"):
            end = await self._worker.stop(
                job,
                signal=request.signal,
                grace=translate.seconds(request.grace_ms),
                signal_all=request.signal_all,
            )
        return StopResponse(output_missing=sum(end.missing.values()))

    async def signal(self, request: SignalRequest) -> SignalResponse:
        """Send a signal to a job."""
        job = parse_job_id(request.job_id)
        await self._worker.signal(job, request.signal, all_processes=request.all)
        return SignalResponse()

    async def pause(self, request: PauseRequest) -> PauseResponse:
        """Freeze the processes of a job."""
        await self._worker.pause(parse_job_id(request.job_id))
        return PauseResponse()

    async def resume(self, request: ResumeRequest) -> ResumeResponse:
        """Let the processes of a job continue."""
        await self._worker.resume(parse_job_id(request.job_id))
        return ResumeResponse()

    async def query(self, request: QueryRequest) -> QueryResponse:
        """Return the status of the job that the client refers to, which was found for its permit."""
        job = permit.get().job or parse_job_id(request.job_id)
        return translate.query_response(await self._worker.query(job))

    async def list(self, request: ListRequest) -> AsyncGenerator[bytes, None]:
        """Yield a page of the jobs that match and that the caller may read, in parts."""
        client = caller.get()
        found = self._worker.jobs(
            list_pages.selection(request, client.identity),
            newest_first=request.newest_first,
            after=list_pages.place_after(request.page_token),
            pause=partial(self._turns.turn, client.identity.client),
            visible=permit.get().visible,
        )
        async with aclosing(found), aclosing(list_pages.parts(found, request.page_size)) as page:
            async for part in page:
                yield part

    async def wait(self, request: WaitRequest) -> WaitResponse:
        """Return the status of a job once it is finished."""
        job = parse_job_id(request.job_id)
        async with self._shutdown.interrupts("the job keeps running, wait again later"):
            status = await self._worker.wait(job)
        return WaitResponse(job=translate.query_response(status))

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        """Change the limits of a running job."""
        await self._worker.update(parse_job_id(request.job_id), translate.changes(request))
        return UpdateResponse()

    async def remove(self, request: RemoveRequest) -> RemoveResponse:
        """Remove a finished job and its output."""
        await self._worker.remove(parse_job_id(request.job_id))
        return RemoveResponse()

    async def stream(self, request: StreamRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the job's output as bytes."""
        start = translate.stream_start(request)
        resume = start.offset if isinstance(start, FromOffset) else 0
        chunks = self._worker.stream(
            parse_job_id(request.job_id),
            channel=translate.channel(request),
            start=start,
            follow=not request.no_follow,
            times=translate.stream_times(request),
            room=output_room.get(),
        )
        async with aclosing(chunks):
            while True:
                async with self._shutdown.interrupts(f"the job keeps running, resume at offset {resume}"):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                resume = chunk.offset + len(chunk.data)
                yield chunk
                del chunk

    async def stream_text(self, request: StreamRequest) -> AsyncGenerator[Chunk, None]:
        """Yield the output as text, as in the original API: a `string` is UTF-8 on the wire.

        Invalid bytes become U+FFFD; no character is split between chunks, or joined across bytes that
        are no longer kept.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        position = 0
        async with aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                text = chunk.data
                before = b"" if chunk.offset == position else decoder.decode(b"", final=True).encode()
                position = chunk.offset + len(text)
                if not text.isascii() or decoder.getstate()[0]:  # ASCII needs no decoding
                    text = decoder.decode(text).encode()
                for piece in _whole_characters(before + text):
                    yield Chunk(0, piece)
                    del piece
                del chunk, text, before
        if rest := decoder.decode(b"", final=True):
            yield Chunk(0, rest.encode())

    def attach(self, opening: AttachOpen, requests: Requests) -> AsyncGenerator[AttachResponse, None]:
        """Write to the stdin of a job, and yield its output."""
        return AttachHandler(self._worker, self._shutdown, opening, requests).responses()

    async def who_am_i(self, request: WhoAmIRequest) -> WhoAmIResponse:
        """Return who the caller is, and which calls it may make."""
        del request
        return who_am_i.to_message(self._authorization.who_am_i(caller.get().identity))

    async def check_health(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """Return SERVING for a known service, and the state of the audit log."""
        if request.service == AUDIT_SERVICE and self._audit.enabled:
            status = HealthCheckResponseServingStatus
            return HealthCheckResponse(status=status.NOT_SERVING if self._audit.trouble else status.SERVING)
        if request.service not in SERVICES:
            raise CallRejected(Status.NOT_FOUND, f"there is no service {request.service!r}")
        return HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING)

    async def watch_health(self, request: HealthCheckRequest) -> AsyncGenerator[HealthCheckResponse, None]:
        """Yield the health of a service now, and again when it changes: at the shutdown."""
        known = request.service in SERVICES
        serving = HealthCheckResponseServingStatus
        yield HealthCheckResponse(status=serving.SERVING if known else serving.SERVICE_UNKNOWN)
        try:
            async with self._shutdown.interrupts("watch again later"):
                await asyncio.Future[None]()
        except ShuttingDown:
            if known:
                yield HealthCheckResponse(status=serving.NOT_SERVING)
            raise

    async def reflect(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        """Return what a client asks about the services, if reflection is on."""
        if self._reflection is None:
            raise CallRejected(Status.UNIMPLEMENTED, "reflection is off here (setting reflection)")
        return self._reflection.answer(request)


def _whole_characters(text: bytes) -> Iterator[bytes]:
    """Split UTF-8 between characters into pieces that fit a message."""
    start = 0
    while start < len(text):
        end = start + MESSAGE_SIZE
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        yield text[start:end]
        start = end
