"""The OutputStore of recorded output: FIFOs for the recorder, segments for readers."""

import asyncio
import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from ..core.ending import Channel
from ..core.errors import OutputUnavailable, QuotaExceeded
from ..core.job import Extent, JobId
from ..core.ports import Sink, SinkKind
from .inotify import DirectoryWatch, Inotify
from .layout import Layout, fifo_path, segment_bases, segment_path

SEGMENT_SIZE = 64 << 20
"""Bytes in a segment: what is deleted at once when a log is bounded."""

_LONGEST_FILE = (1 << 63) - 1
# What off_t can hold: pread(2) refuses to look beyond.

_MOST_READ = 1024
# Segments whose paths are remembered.


@dataclass(frozen=True, slots=True)
class FifoSink:
    """A FIFO that the recorder empties into segments of this size."""

    path: Path
    segment_size: int

    @property
    def kind(self) -> SinkKind:
        return SinkKind.FIFO


class RecorderStore:
    """Reads what the recorder has recorded."""

    def __init__(self, state_dir: Path, *, segment_size: int = SEGMENT_SIZE) -> None:
        self._layout = Layout(state_dir)
        self._layout.make()
        self._segment_size = segment_size
        self._inotify = Inotify()
        self._read_last: dict[tuple[JobId, Channel], tuple[int, str]] = {}
        self._buffer = bytearray()

    @property
    def sink_kind(self) -> SinkKind:
        return SinkKind.FIFO

    async def create(self, job: JobId, channels: Collection[Channel]) -> Mapping[Channel, Sink]:
        try:
            return self._create(self._layout.job(job), channels)
        except OSError as error:
            await self.remove(job)
            raise QuotaExceeded(f"there is no room for the output of a job: {error}") from error

    def _create(self, directory: Path, channels: Collection[Channel]) -> Mapping[Channel, Sink]:
        directory.mkdir(mode=0o700)
        sinks: dict[Channel, Sink] = {}
        for channel in channels:
            path = fifo_path(directory, channel)
            os.mkfifo(path)
            # `> /dev/stderr` opens it anew, as whatever user the job is by then. Nobody else
            # gets here: the directories above are closed.
            path.chmod(0o622)
            segment_path(directory, channel, 0).touch(mode=0o600)
            sinks[channel] = FifoSink(path, self._segment_size)
        return sinks

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        directory, bases = self._bases(job, channel)
        try:
            size = os.stat(segment_path(directory, channel, bases[-1])).st_size
        except FileNotFoundError:
            raise self._gone(job, channel) from None
        return Extent(bases[0], bases[-1] + size)

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        # Looking for segments costs as much as reading from one: most reads go on where the last one was.
        base, path = self._read_last.get((job, channel), (_LONGEST_FILE, ""))
        if base <= offset <= _LONGEST_FILE - size and (
            data := await self._read_segment(path, offset - base, size)
        ):
            return data
        return await self._find_and_read(job, channel, offset, size)

    async def _find_and_read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        directory, bases = self._bases(job, channel)
        if offset < bases[0]:
            raise OutputUnavailable(f"output before byte {bases[0]} is not kept", bases[0])
        base = max(each for each in bases if each <= offset)
        if offset - base > _LONGEST_FILE - size:
            return b""
        path = str(segment_path(directory, channel, base))
        if len(self._read_last) >= _MOST_READ:
            self._read_last.clear()
        self._read_last[job, channel] = base, path
        data = await self._read_segment(path, offset - base, size)
        following = [each for each in bases if each > base]
        if not data and following and following[0] != offset:
            raise OutputUnavailable(f"output before byte {following[0]} is not kept", following[0])
        return data

    def watch(self, job: JobId) -> AbstractAsyncContextManager[DirectoryWatch]:
        return self._inotify.watch(self._layout.job(job))

    async def remove(self, job: JobId) -> None:
        for channel in Channel:
            self._read_last.pop((job, channel), None)
        await asyncio.to_thread(shutil.rmtree, self._layout.job(job), ignore_errors=True)

    async def sweep(self, keep: Collection[JobId]) -> None:
        kept = {str(job) for job in keep}
        for name in os.listdir(self._layout.jobs):
            if name not in kept:
                await asyncio.to_thread(shutil.rmtree, self._layout.jobs / name, ignore_errors=True)

    async def close(self) -> None:
        self._inotify.close()

    def _bases(self, job: JobId, channel: Channel) -> tuple[Path, list[int]]:
        directory = self._layout.job(job)
        try:
            bases = segment_bases(directory, channel)
        except FileNotFoundError:
            bases = []
        if not bases:
            raise self._gone(job, channel)
        return directory, bases

    async def _read_segment(self, path: str, offset: int, size: int) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""  # deleted since the look; the next one tells what is kept
        try:
            try:
                # Linux 4.14: what is not in the page cache is EAGAIN, and no reason to stop the loop.
                room = memoryview(self._room(size))[:size]
                return bytes(room[: os.preadv(fd, [room], offset, os.RWF_NOWAIT)])
            except OSError:  # EAGAIN, or EOPNOTSUPP from the file system
                return await asyncio.to_thread(os.pread, fd, size, offset)
        finally:
            os.close(fd)

    def _room(self, size: int) -> bytearray:
        """Return memory to read into that need not be cleared each time."""
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return self._buffer

    def _gone(self, job: JobId, channel: Channel) -> OutputUnavailable:
        return OutputUnavailable(f"no {channel} of job {job} is kept")
