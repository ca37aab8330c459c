"""A job, as a client sees it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from ..api import translate
from ..core.model.ending import Channel
from ..core.model.job import Chunk, JobId, JobStatus, parse_job_id
from ..core.model.limits import ResourceLimits
from ..core.model.stream_start import BEGINNING, StreamStart
from ..core.model.stream_times import ANY_TIME, StreamTimes
from ..proto import worker
from .calls import method
from .output_stream import OutputStream

if TYPE_CHECKING:
    from .attachment import AttachEvent
    from .client import Client
    from .pending_input import ReadInput
    from .window import Window

LONGEST_LINE = 1 << 20
"""Characters, from which on `Job.lines` yields a line in pieces."""


class Job:
    """A job of the server that a client is connected to; ``str(job)`` is its id.

    ``job_id`` is a full id; JobNotFound is raised for any other text. Whether the server knows the job is
    found out by the first call. Every method raises RpcError and ServerUnreachable.
    """

    def __init__(self, client: "Client", job_id: JobId | str) -> None:
        self.id: JobId = parse_job_id(job_id) if isinstance(job_id, str) else job_id
        self._text = str(self.id)
        self._client = client

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Job {self._text}>"

    async def query(self) -> JobStatus:
        """Return the status of the job; the server does not send its environment."""
        return await self._client.query(self._text)

    async def wait(self) -> JobStatus:
        """Return the status of the job once it is finished."""
        return await self._client.calls.make(
            method("Wait"),
            worker.WaitRequest(job_id=self._text),
            worker.WaitResponse,
            lambda reply: translate.job_status(reply.job or worker.QueryResponse()),
        )

    async def stop(
        self, *, signal: int | None = None, grace: float | None = None, signal_all: bool = False
    ) -> int | None:
        """Stop the job: ``signal`` (SIGTERM), after ``grace`` seconds SIGKILL; return when it is finished.

        Returns how many bytes of the end of its output could not be recorded: a full disk delays no stop.
        None: the answer was lost, and the job is finished. ``signal_all``: every process gets the signal at
        once, not the main process first.
        """
        request = worker.StopRequest(
            job_id=self._text,
            signal=signal,
            grace_ms=translate.milliseconds(grace),
            signal_all=signal_all,
        )
        return await self._client.calls.make_final(
            method("Stop"),
            request,
            worker.StopResponse,
            lambda reply: reply.output_missing,
            already="FailedPrecondition",
        )

    async def signal(self, number: int, *, all_processes: bool = False) -> None:
        """Send a signal to the main process of the job, or to all, at most once, and do nothing else.

        Whether it was sent is unknown if the connection is lost: this call is not repeated.
        """
        await self._client.calls.make_once(
            method("Signal"),
            worker.SignalRequest(job_id=self._text, signal=number, all=all_processes),
            worker.SignalResponse,
            _nothing,
            unknown="it is unknown whether the signal was sent",
        )

    async def pause(self) -> None:
        """Freeze all processes of the job; idempotent."""
        request = worker.PauseRequest(job_id=self._text)
        await self._client.calls.make(method("Pause"), request, worker.PauseResponse, _nothing)

    async def resume(self) -> None:
        """Let the processes of the paused job continue; idempotent."""
        request = worker.ResumeRequest(job_id=self._text)
        await self._client.calls.make(method("Resume"), request, worker.ResumeResponse, _nothing)

    async def update(self, changes: ResourceLimits) -> None:
        """Change those limits of the running job that ``changes`` sets."""
        request = translate.update_request(self._text, changes)
        await self._client.calls.make(method("Update"), request, worker.UpdateResponse, _nothing)

    async def remove(self) -> None:
        """Remove the finished job and its output."""
        request = worker.RemoveRequest(job_id=self._text)
        await self._client.calls.make_final(
            method("Remove"), request, worker.RemoveResponse, _nothing, already="NotFound"
        )

    async def stream(
        self,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
    ) -> AsyncGenerator[Chunk, None]:
        """Yield output from ``start`` on, each byte once; with ``follow`` until the job is finished.

        Where bytes are no longer kept, the offset of a chunk is greater than the end of the previous one.
        """
        stream = OutputStream(self._text, channel, start, times, follow=follow)
        async with aclosing(self._client.calls.make_resumed(stream.chunks)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def lines(
        self,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        longest: int = LONGEST_LINE,
    ) -> AsyncGenerator[str, None]:
        """Yield the lines of the output as text, each with its newline; joined they are all of the output.

        Only the last one may have none. A line of more than ``longest`` characters comes in pieces of that
        size, of which only the last has the newline. Bytes that are not UTF-8 become U+FFFD. Other
        arguments are those of ``stream``.
        """
        from .lines import Lines  # noqa: PLC0415 - the command does not need it

        lines = Lines(longest)
        async with aclosing(self.stream(channel=channel, start=start, follow=follow)) as chunks:
            async for chunk in chunks:
                for line in lines.add(chunk):
                    yield line
        for line in lines.end():
            yield line

    async def output(
        self,
        *,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
    ) -> bytes:
        """Return all output that is kept; it has to fit into memory. Arguments are those of ``stream``."""
        collected = bytearray()
        async with aclosing(self.stream(channel=channel, start=start, follow=follow)) as chunks:
            async for chunk in chunks:
                collected += chunk.data
        return bytes(collected)

    async def attach(
        self,
        *,
        read: "ReadInput | None" = None,
        session: str = "",
        output: Mapping[Channel, StreamStart] | None = None,
        window: "Window | None" = None,
    ) -> AsyncGenerator["AttachEvent", None]:
        """Write what ``read`` returns to the stdin of the job, and yield its output, each byte once.

        The input begins after what was accepted before. With a ``session``, a text that only this client
        knows, it begins at byte 0, and bytes that this session has written before are skipped. Raises
        RpcError with the code Aborted if another client has written meanwhile. ``window``: the terminal of
        the job gets this size, also after each change. Ends when the job has finished; without output also
        when all input was accepted, or the job reads no more. Raises InputFailed if ``read`` raises
        OSError.
        """
        from .attachment import Attachment  # noqa: PLC0415 - few programs need it

        attachment = Attachment(self._text, read, session, output or {}, window)
        try:
            async with aclosing(self._client.calls.make_resumed(attachment.events)) as events:
                async for event in events:
                    yield event
        finally:
            await attachment.close()


def _nothing(_reply: object) -> None:
    """Read a reply without fields."""
