"""One Attach call on the server: input, output and responses, each at its own pace.

A task passes input on, another one reads each channel of output, and `responses` yields what they have for
the client. A job that does not read stops only the input, a client that does not read only the output. What
waits in memory is one request, one chunk for each channel, and the newest state of the input.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import replace

from ..core.engine.job_input import JobInput
from ..core.errors import JobAlreadyFinished
from ..core.model.input import JOB_HAS_ENDED, InputState
from ..core.model.job import Chunk, parse_job_id
from ..core.worker import Worker
from ..proto import worker as proto
from . import attach_messages, translate
from .errors import CallRejected
from .grpc.status import Status
from .output_room import output_room
from .shutdown import Shutdown

Requests = AsyncGenerator[proto.AttachRequest, None]

_ADVICE = "the job keeps running, attach again with the same session"


class AttachHandler:
    """Serves one call, after its first request; ``requests`` are the others."""

    def __init__(
        self, worker: Worker, shutdown: Shutdown, opening: proto.AttachOpen, requests: Requests
    ) -> None:
        attach_messages.check_output(opening)
        self._worker = worker
        self._shutdown = shutdown
        self._opening = opening
        self._requests = requests
        self._job = parse_job_id(opening.job_id)
        self._changed = asyncio.Event()
        self._opened = False
        self._input: InputState | None = None
        self._unsent = False  # whether the client does not know the state of the input
        self._chunk: proto.AttachResponse | None = None
        self._turn = asyncio.Lock()
        self._sent = asyncio.Event()

    async def responses(self) -> AsyncGenerator[proto.AttachResponse, None]:
        """Yield the responses until the call is over."""
        input_task = self._begin(self._take_input() if self._opening.input else self._only_watch())
        tasks = [input_task]
        try:
            while not self._opened:
                await self._change()
                _raise_errors(tasks)
            yield proto.AttachResponse(opened=self._opened_message())
            output = [self._begin(self._follow(each)) for each in self._opening.output]
            job_ends = output or [self._begin(self._wait_finished())]
            tasks += job_ends
            while True:
                _raise_errors([input_task])
                if (response := self._next()) is not None:
                    yield response
                    if response.output is not None:
                        self._sent.set()
                    del response
                    continue
                _raise_errors(tasks)  # of output: after what precedes the error
                if all(task.done() for task in job_ends):
                    self._report_end_of_job()
                    if not self._unsent:
                        return
                elif input_task.done() and not output:
                    return
                else:
                    await self._change()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._changed.set())
        return task

    async def _change(self) -> None:
        """Wait until a task has something for the client, or is done."""
        async with self._shutdown.interrupts(_ADVICE):
            await self._changed.wait()
        self._changed.clear()

    def _next(self) -> proto.AttachResponse | None:
        """Return a response if there is one; the state of the input has precedence."""
        if self._unsent and self._input is not None:
            self._unsent = False
            return proto.AttachResponse(input=attach_messages.input_message(self._input))
        chunk, self._chunk = self._chunk, None
        return chunk

    def _opened_message(self) -> proto.AttachOpened:
        self._unsent = False
        state = None if self._input is None else attach_messages.input_message(self._input)
        return proto.AttachOpened(input=state)

    def _report(self, state: InputState) -> None:
        """Send the client the state of the input, in place of one that was not sent yet."""
        self._input = state
        self._opened = self._unsent = True
        self._changed.set()

    def _report_end_of_job(self) -> None:
        if self._input is not None and not self._input.closed:
            self._report(replace(self._input, closed=JOB_HAS_ENDED))

    async def _take_input(self) -> None:
        """Pass the input on until the client ends its side."""
        async with aclosing(self._requests):
            try:
                async with self._worker.attach_input(
                    self._job, self._opening.session, resumes=self._opening.resume
                ) as writer:
                    self._report(await writer.state())
                    async for request in self._requests:
                        await self._serve(writer, request)
            except JobAlreadyFinished as error:
                self._report(replace(self._input or InputState(), closed=str(error)))
                async for request in self._requests:
                    _check_kind(request)  # and discard it

    async def _serve(self, writer: JobInput, request: proto.AttachRequest) -> None:
        _check_kind(request)
        if request.input is not None:
            self._report(await _write(writer, request.input))
        if request.resize is not None:
            writer.check()
            await self._worker.resize(self._job, translate.window_size(request.resize))

    async def _only_watch(self) -> None:
        """Check that the job exists, and that the client sends at most sizes, for a job without stdin."""
        status = await self._worker.query(self._job)
        self._opened = True
        self._changed.set()
        async with aclosing(self._requests):
            async for request in self._requests:
                _check_kind(request)
                if request.resize is None or status.record.spec.stdin:
                    raise CallRejected(Status.INVALID_ARGUMENT, "the call was opened without `input`")
                with suppress(JobAlreadyFinished):
                    await self._worker.resize(self._job, translate.window_size(request.resize))

    async def _follow(self, requested: proto.AttachOutput) -> None:
        """Hand over the output of a channel, one chunk at a time, until the job has finished."""
        chunks = self._worker.stream(
            self._job,
            channel=translate.channel(requested),
            start=translate.stream_start(requested),
            room=output_room.get(),
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                await self._send(requested.channel, chunk)
                del chunk

    async def _send(self, channel: proto.Channel, chunk: Chunk) -> None:
        """Hand a chunk over, and return once it is sent: the channels take turns."""
        async with self._turn:
            self._sent.clear()
            self._chunk = attach_messages.chunk_response(channel, chunk)
            self._changed.set()
            await self._sent.wait()

    async def _wait_finished(self) -> None:
        await self._worker.wait(self._job)


def _raise_errors(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        if task.done():
            task.result()


def _check_kind(request: proto.AttachRequest) -> None:
    """Raise CallRejected unless a request is of a kind that may follow the first one."""
    if request.open is not None:
        raise CallRejected(Status.INVALID_ARGUMENT, "`open` is only the first request")
    if request.input is None and request.resize is None:
        raise CallRejected(Status.UNIMPLEMENTED, "this kind of request is not known to this server")


async def _write(writer: JobInput, requested: proto.AttachInput) -> InputState:
    state = await writer.write(requested.offset, requested.data)
    if requested.end:
        state = await writer.end(requested.offset + len(requested.data))
    return state
