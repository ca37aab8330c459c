"""Copies a job's output to stdout or stderr."""

from contextlib import aclosing, nullcontext

from ...api.client import RpcError, ServerUnreachable
from ...api.resuming import ResumingClient
from ...core.model.ending import Channel
from ...core.model.stream_start import BEGINNING, FromOffset, StreamStart
from .console import note
from .descriptor import OutputDescriptor
from .meter import Meter

_FINAL = frozenset({"NotFound", "OutOfRange", "PermissionDenied", "InvalidArgument"})
"""Codes of errors that a retry cannot change."""


def resumable(error: RpcError | ServerUnreachable) -> bool:
    """Return whether the stream can be resumed later after this error."""
    return isinstance(error, ServerUnreachable) or error.code not in _FINAL


class OutputCopy:
    """Copies a job's output to a descriptor, and keeps the position."""

    def __init__(
        self,
        job: str,
        *,
        into: int,
        channel: Channel | None = None,
        start: StreamStart = BEGINNING,
        follow: bool = True,
    ) -> None:
        self._job = job
        self._into = into
        self._channel = channel
        self._start = start
        self._follow = follow
        self._position = start.offset if isinstance(start, FromOffset) else None
        self.begun = False
        """Whether any output has arrived."""

    async def run(self, client: ResumingClient, meter: Meter | None = None) -> None:
        """Write the output until the stream ends; print a note where output was discarded."""
        target = OutputDescriptor(self._into)
        chunks = client.stream(
            self._job,
            channel=self._channel,
            start=self._start,
            follow=self._follow,
        )
        async with meter.ticking() if meter else nullcontext(), target.until_closed(), aclosing(chunks):
            async for chunk in chunks:
                if self._position is not None and chunk.offset > self._position:
                    missing = chunk.offset - self._position
                    note(f"{missing} bytes from offset {self._position} on are no longer kept")
                await target.write(chunk.data)
                if meter is not None:
                    meter.add(len(chunk.data))
                self._position = chunk.offset + len(chunk.data)
                self.begun = True

    @property
    def rest(self) -> str:
        """The command that prints the rest of the output."""
        channel = " --stderr" if self._channel is Channel.STDERR else ""
        offset = f" --offset {self._position}" if self._position else ""
        return f"worker stream {self._job}{channel}{offset}"
