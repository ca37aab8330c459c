"""Attach on the client: one call, and an attachment that continues over any number of calls."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

from ..api import attach_messages
from ..api.attach_messages import ChannelChunk
from ..api.grpc.channel import Call
from ..core.model.ending import Channel
from ..core.model.input import InputState
from ..core.model.stream_start import FromOffset, StreamStart
from ..core.model.terminal import WindowSize
from ..proto import worker as proto
from .calls import method
from .connection import Connection
from .pending_input import PendingInput, ReadInput
from .window import REDRAW_PAUSE, Window

AttachEvent = ChannelChunk | InputState
"""What a client learns: some output, or how much of the input was accepted."""


class AttachCall:
    """One call. `attach_call` translates the errors of its methods when its context is left.

    ``input`` is the state of the input at the beginning, None for a call that does not write.
    """

    def __init__(self, call: Call[proto.AttachRequest, proto.AttachResponse]) -> None:
        self._call = call
        self._sending = asyncio.Lock()
        self.input: InputState | None = None

    async def open(
        self, job: str, session: str | None, output: Mapping[Channel, StreamStart], *, resume: bool
    ) -> None:
        """Send the first request, and wait until the server has accepted the call."""
        await self._call.send(attach_messages.open_request(job, session, output, resume=resume))
        first = await self._call.receive()
        if first is not None and first.opened is not None and first.opened.input is not None:
            self.input = attach_messages.input_state(first.opened.input)

    async def write(self, offset: int, data: bytes, *, end: bool = False) -> None:
        """Send input, once the server takes it; with ``end`` the input ends after it."""
        await self._send(attach_messages.input_request(offset, data, end=end))

    async def resize(self, size: WindowSize) -> None:
        """Give the terminal of the job this size, once the server takes it; only in a call that writes."""
        await self._send(attach_messages.resize_request(size))

    async def leave(self) -> None:
        """Send nothing more. The stdin of the job stays open, unless the input has ended."""
        await self._call.end()

    async def receive(self) -> AttachEvent | None:
        """Return the next event, or None at the end of the call."""
        while (response := await self._call.receive()) is not None:
            if response.output is not None:
                return attach_messages.channel_chunk(response.output)
            if response.input is not None:
                return attach_messages.input_state(response.input)
        return None

    async def _send(self, request: proto.AttachRequest) -> None:
        async with self._sending:  # a request may have to wait for the window in its middle
            await self._call.send(request)


@asynccontextmanager
async def attach_call(
    connection: Connection,
    job: str,
    *,
    session: str | None = None,
    resume: bool = False,
    output: Mapping[Channel, StreamStart],
) -> AsyncIterator[AttachCall]:
    """Open a call that gets ``output`` from these starts on, and writes to stdin if it has a session.

    The session is a text that only this client knows: with the same one again, and ``resume``, another
    call continues after a lost connection.
    """
    async with connection.call(method("Attach"), proto.AttachRequest, proto.AttachResponse) as stream:
        call = AttachCall(stream)
        await call.open(job, session, output, resume=resume)
        yield call


class Attachment:
    """Input and output of a job over any number of calls: each byte once, in both directions.

    ``read`` returns the next bytes of the input; None: this attachment does not write. ``session`` is a
    text that only this client knows; one that is given is continued, and its input begins at byte 0.
    ``window`` has the size for the terminal of the job; only of one that writes, or of a job without stdin.
    """

    def __init__(
        self,
        job: str,
        read: ReadInput | None,
        session: str,
        output: Mapping[Channel, StreamStart],
        window: Window | None = None,
    ) -> None:
        self._job = job
        self._output = dict(output)
        self._input = None if read is None else PendingInput(read, 0 if session else None)
        self._session = None if read is None else session or str(uuid4())
        self._resumes = bool(session)
        self._window = window

    async def events(self, connection: Connection) -> AsyncGenerator[AttachEvent, None]:
        """Make a call that continues where the previous one ended, and yield its events."""
        async with attach_call(
            connection, self._job, session=self._session, resume=self._resumes, output=self._output
        ) as call:
            offset = 0
            if self._input is not None and call.input is not None:
                self._resumes = True
                offset = self._input.continue_at(call.input)
                yield call.input
            sending = asyncio.ensure_future(self._send(call, offset))
            try:
                while (event := await _receive_beside(sending, call)) is not None:
                    self._record(event)
                    yield event
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def close(self) -> None:
        """Read no more input."""
        if self._input is not None:
            await self._input.close()

    async def _send(self, call: AttachCall, offset: int) -> None:
        """Send the size of the terminal, and then the input from an offset on, and changes of the size."""
        if self._window is None:
            await self._send_input(call, offset)
            return
        for number, size in enumerate(self._window.opening_sizes()):
            await asyncio.sleep(REDRAW_PAUSE if number else 0)
            await call.resize(size)
        resizing = asyncio.ensure_future(_send_changes(call, self._window))
        try:
            if self._input is None:
                await resizing
            await self._send_input(call, offset)
        finally:
            resizing.cancel()
            await asyncio.gather(resizing, return_exceptions=True)  # its errors end the call too

    async def _send_input(self, call: AttachCall, offset: int) -> None:
        if self._input is not None:
            while piece := await self._input.piece_at(offset):
                await call.write(offset, piece)
                offset += len(piece)
            if piece is not None:
                await call.write(offset, b"", end=True)
        await call.leave()

    def _record(self, event: AttachEvent) -> None:
        if isinstance(event, ChannelChunk):
            self._output[event.channel] = FromOffset(event.chunk.offset + len(event.chunk.data))
        elif self._input is not None:
            self._input.record(event)


async def _send_changes(call: AttachCall, window: Window) -> None:
    while True:
        await call.resize(await window.next_size())


async def _receive_beside(sending: "asyncio.Task[None]", call: AttachCall) -> AttachEvent | None:
    """Return the next event of a call, or None at its end; raise the error if the input cannot be sent."""
    receiving = asyncio.ensure_future(call.receive())
    try:
        if not sending.done():
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        return await receiving
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
