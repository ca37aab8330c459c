"""What each method does: translate, ask the Worker, translate back.

The identity of the caller is in a context variable, set before a handler runs. Errors pass
through; a table elsewhere says what the client is told.
"""

import asyncio
import codecs
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from signal import SIGTERM

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..core.model.job import Chunk, parse_job_id
from ..core.model.stream_start import FromOffset
from ..core.worker import Worker
from ..proto.health import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
)
from ..proto.worker import (
    ListRequest,
    ListResponse,
    QueryRequest,
    QueryResponse,
    RemoveRequest,
    RemoveResponse,
    StartRequest,
    StartResponse,
    StopRequest,
    StopResponse,
    StreamRequest,
    UpdateRequest,
    UpdateResponse,
    WaitRequest,
    WaitResponse,
)
from . import translate
from .draining import Drain, ShuttingDown
from .grpc.framing import MESSAGE_SIZE
from .roles import NOBODY, Identity

caller: ContextVar[Identity] = ContextVar("caller", default=NOBODY)
"""Who makes the call that is being handled."""

SERVICES = ("", "worker.v1.WorkerService", "WorkerService")
"""The names under which the health of this server can be asked for."""


class Handlers:
    """One handler per method of the API."""

    def __init__(self, worker: Worker, drain: Drain) -> None:
        self._worker = worker
        self._drain = drain

    async def start(self, request: StartRequest) -> StartResponse:
        """Start a job in the caller's name."""
        spec = translate.job_spec(request)
        job = await self._worker.start(spec, owner=caller.get().name, request_id=request.request_id)
        return StartResponse(job_id=str(job))

    async def stop(self, request: StopRequest) -> StopResponse:
        """Answer when the job is over. A client that goes away does not stop the stopping."""
        job = parse_job_id(request.job_id)
        signal = SIGTERM if request.signal is None else request.signal
        async with self._drain.interrupts("the job goes on being stopped"):
            await self._worker.stop(job, signal=signal, grace=translate.seconds(request.grace_ms))
        return StopResponse()

    async def query(self, request: QueryRequest) -> QueryResponse:
        """Tell what is known now."""
        return translate.query_response(await self._worker.query(parse_job_id(request.job_id)))

    async def list(self, request: ListRequest) -> ListResponse:
        """Tell what is known about every job that matches."""
        found = await self._worker.list(labels=request.labels, running=request.running)
        return ListResponse(jobs=[translate.list_entry(status) for status in found])

    async def wait(self, request: WaitRequest) -> WaitResponse:
        """Answer when the job is over."""
        job = parse_job_id(request.job_id)
        async with self._drain.interrupts("the job goes on, wait again later"):
            status = await self._worker.wait(job)
        return WaitResponse(job=translate.query_response(status))

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        """Change limits of a running job."""
        await self._worker.update(parse_job_id(request.job_id), translate.changes(request))
        return UpdateResponse()

    async def remove(self, request: RemoveRequest) -> RemoveResponse:
        """Forget a job that is over."""
        await self._worker.remove(parse_job_id(request.job_id))
        return RemoveResponse()

    async def stream(self, request: StreamRequest) -> AsyncGenerator[Chunk, None]:
        """Send the job's output as bytes."""
        start = translate.stream_start(request)
        resume = start.offset if isinstance(start, FromOffset) else 0
        chunks = self._worker.stream(
            parse_job_id(request.job_id),
            channel=translate.channel(request),
            start=start,
            follow=not request.no_follow,
        )
        async with aclosing(chunks):
            while True:
                async with self._drain.interrupts(f"the job goes on, resume at offset {resume}"):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
                resume = chunk.offset + len(chunk.data)

    async def stream_text(self, request: StreamRequest) -> AsyncGenerator[Chunk, None]:
        """Send the output as the original API does, as text: a `string` is UTF-8 on the wire.

        What is not UTF-8 becomes U+FFFD; no character is cut at the border of a chunk, or joined across
        bytes that are no longer kept.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        position = 0
        async with aclosing(self.stream(request)) as chunks:
            async for chunk in chunks:
                text = chunk.data
                before = b"" if chunk.offset == position else decoder.decode(b"", final=True).encode()
                position = chunk.offset + len(text)
                if not text.isascii() or decoder.getstate()[0]:  # else it is what it would become
                    text = decoder.decode(text).encode()
                for piece in _whole_characters(before + text):
                    yield Chunk(0, piece)
        if rest := decoder.decode(b"", final=True):
            yield Chunk(0, rest.encode())

    async def check_health(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """Tell that a service of ours is served."""
        if request.service not in SERVICES:
            raise GRPCError(Status.NOT_FOUND, f"no service {request.service!r} here")
        return HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING)

    async def watch_health(self, request: HealthCheckRequest) -> AsyncGenerator[HealthCheckResponse, None]:
        """Tell the health of a service now and when it changes, which is at the end."""
        known = request.service in SERVICES
        serving = HealthCheckResponseServingStatus
        yield HealthCheckResponse(status=serving.SERVING if known else serving.SERVICE_UNKNOWN)
        try:
            async with self._drain.interrupts("watch again later"):
                await asyncio.Future[None]()
        except ShuttingDown:
            if known:
                yield HealthCheckResponse(status=serving.NOT_SERVING)
            raise


def _whole_characters(text: bytes) -> Iterator[bytes]:
    """Yield UTF-8 in pieces that each fit a message and cut no character."""
    start = 0
    while start < len(text):
        end = start + MESSAGE_SIZE
        while end < len(text) and text[end] & 0xC0 == 0x80:
            end -= 1
        yield text[start:end]
        start = end
