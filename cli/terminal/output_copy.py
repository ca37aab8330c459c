"""Copies a job's output to stdout or stderr."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import aclosing
from functools import partial

from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...core.model.ending import Channel
from ...core.model.stream_start import BEGINNING, FromOffset, LastBytes, LastLines, StreamStart
from ...core.model.stream_times import ANY_TIME, StreamTimes
from ..options.times import format_time
from .console import note
from .descriptor import OutputDescriptor
from .meter import Meter
from .timestamps import TimestampedLines

MOST_BACKLOG = 256 << 10
"""Bytes that a terminal shows after an interrupt although they were written before."""

_SKIP_TIMES, _SKIP_INTERVAL = 10, 0.1
"""How often, and after how many seconds, to look for a backlog: a job writes on until it is interrupted."""

_FINAL = frozenset({"NotFound", "OutOfRange", "PermissionDenied", "InvalidArgument", "FailedPrecondition"})
"""Codes of errors that a retry cannot change."""

_DESCRIPTORS = {Channel.OUTPUT: 1, Channel.STDOUT: 1, Channel.STDERR: 2}


def resumable(error: RpcError | ServerUnreachable) -> bool:
    """Return whether the stream can be resumed later after this error."""
    return isinstance(error, ServerUnreachable) or error.code not in _FINAL


def _start_option(start: StreamStart) -> str:
    match start:
        case FromOffset(offset):
            return f" --offset {offset}" if offset else ""
        case LastLines(count):
            return f" --tail {count}"
        case LastBytes(count):
            return f" --tail-bytes {count}"


class OutputCopy:
    """Copies one channel of a job's output to a descriptor, and keeps the position.

    ``channel`` is OUTPUT for the only channel of a job, and then also for its stdout.
    """

    def __init__(
        self,
        job: Job,
        *,
        into: int,
        channel: Channel = Channel.OUTPUT,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
    ) -> None:
        self._job = job
        self._into = into
        self.channel = channel
        self._rest_start = start
        self._follow = follow
        self._times = times
        self._lines = TimestampedLines() if times.timestamps else None
        self.begun = False
        """Whether any output has arrived."""
        self._skip_to = 0

    def skip_to(self, end: int) -> None:
        """Skip the output before this offset, if that is much."""
        if isinstance(self._rest_start, FromOffset) and end - self._rest_start.offset > MOST_BACKLOG:
            self._skip_to = end

    async def run(self, meter: Meter | None = None) -> None:
        """Write the output until the stream ends; print a note where output was discarded."""
        target = OutputDescriptor(self._into)
        async with target.until_closed():
            while await self._copy(target, meter):
                self._skip()

    def _skip(self) -> None:
        skipped = f"{self.rest} --no-follow"
        note(f"not shown after the interrupt: {self._skip_to - self._position} bytes; see {skipped}")
        self._rest_start = FromOffset(self._skip_to)

    @property
    def _position(self) -> int:
        return self._rest_start.offset if isinstance(self._rest_start, FromOffset) else 0

    async def _copy(self, target: OutputDescriptor, meter: Meter | None) -> bool:
        """Write the output; return False when the stream has ended, True if some is to be skipped."""
        chunks = self._job.stream(
            channel=self.channel,
            start=self._rest_start,
            follow=self._follow,
            times=self._times,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                self._note_missing(chunk.offset)
                data = self._lines.add(chunk) if self._lines else chunk.data
                if meter is not None and self._into == meter.terminal:
                    meter.make_room(data)
                await target.write(data)
                if meter is not None:
                    meter.add(len(chunk.data))
                self._rest_start = FromOffset(chunk.offset + len(chunk.data))
                self.begun = True
                if self._skip_to > self._position:
                    return True
        return False

    def _note_missing(self, offset: int) -> None:
        if not self.begun and self._times.since_ms is not None:
            return  # the output begins where it was written at that time
        if isinstance(self._rest_start, FromOffset) and offset > self._rest_start.offset:
            expected = self._rest_start.offset
            of_channel = " of stderr" if self.channel is Channel.STDERR else ""
            note(f"{offset - expected} bytes{of_channel} from offset {expected} on are no longer kept")

    @property
    def rest(self) -> str:
        """The command that prints the rest of the output."""
        channel = "" if self.channel is Channel.OUTPUT else f" --{self.channel}"
        return f"worker stream {self._job}{channel}{_start_option(self._rest_start)}{self._time_options()}"

    def _time_options(self) -> str:
        times = {"--since": None if self.begun else self._times.since_ms, "--until": self._times.until_ms}
        given = [f" {option} {format_time(at)}" for option, at in times.items() if at is not None]
        return "".join([*given, *([" --timestamps"] if self._times.timestamps else [])])


class OutputCopies:
    """Copies each channel of a job's output to its own descriptor, and keeps the positions.

    ``channels`` may give each one a start of its own. If it is None, the server is asked for the channels
    while the first one is copied.
    """

    def __init__(
        self,
        job: Job,
        channels: Collection[Channel] | Mapping[Channel, StreamStart] | None = None,
        *,
        start: StreamStart = BEGINNING,
        follow: bool = True,
        times: StreamTimes = ANY_TIME,
    ) -> None:
        self._job = job
        self._channels_known = channels is not None
        self._copy = partial(OutputCopy, job, start=start, follow=follow, times=times)
        starts = channels if isinstance(channels, Mapping) else {}
        self._copies = [
            self._copy(into=_DESCRIPTORS[channel], channel=channel, start=starts.get(channel, start))
            for channel in channels or [Channel.OUTPUT]
        ]

    @property
    def begun(self) -> bool:
        """Whether any output has arrived."""
        return any(copy.begun for copy in self._copies)

    async def run(self, meter: Meter | None = None) -> None:
        """Copy until one copy fails or all have ended."""
        running = [asyncio.ensure_future(copy.run(meter)) for copy in self._copies]
        if not self._channels_known:
            running.append(asyncio.ensure_future(self._copy_separate_stderr(meter)))
        try:
            await asyncio.gather(*running)
        finally:
            for copy in running:
                copy.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def skip_backlog(self) -> None:
        """Skip what was written and is not shown yet, after an interrupt, if it is much."""
        for _ in range(_SKIP_TIMES):
            written = (await self._job.query()).output
            for copy in self._copies:
                if extent := written.get(copy.channel):
                    copy.skip_to(extent.end)
            await asyncio.sleep(_SKIP_INTERVAL)

    async def _copy_separate_stderr(self, meter: Meter | None) -> None:
        """Copy stderr if it is separate; then the other copy is that of stdout."""
        if (await self._job.query()).record.spec.split_output:
            stderr = self._copy(into=_DESCRIPTORS[Channel.STDERR], channel=Channel.STDERR)
            self._copies[0].channel = Channel.STDOUT
            self._copies.append(stderr)
            await stderr.run(meter)

    @property
    def rest(self) -> str:
        """The commands that print the rest of the output."""
        if not self.begun:
            return self._copy(into=_DESCRIPTORS[Channel.OUTPUT]).rest
        return ", and ".join(copy.rest for copy in self._copies)
