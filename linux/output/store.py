"""The OutputStore of recorded output: FIFOs for the recorder, segments for readers."""

import asyncio
import errno
import os
import shutil
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path

from ...core.errors import (
    NoOutputKept,
    OutputUnavailable,
    QuotaExceeded,
    StorageUnavailable,
)
from ...core.model.ending import Channel
from ...core.model.job import Extent, JobId, job_ids_among
from ...core.ports import RecordedFifo, Sink, SinkKind
from ..state.job_directory import fifo_path, segment_bases, segment_path
from ..state.layout import Layout
from .inotify import DirectoryWatch, Inotify

SEGMENT_SIZE = 64 << 20
"""Bytes in a segment: what is deleted at once when a log is bounded."""

PIPE_SIZE = 65536
"""Bytes in a FIFO (pipe(7)): a segment smaller than that would only make more files."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}

_LONGEST_FILE = (1 << 63) - 1
# What off_t can hold: pread(2) refuses to look beyond.

_MOST_READ = 1024
# Segments whose paths are remembered.


class _SpareDescriptor:
    """One that is given up when there is no other to read with: those who come must not end who follows."""

    def __init__(self) -> None:
        self._fd = -1
        self._take()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have one descriptor more, unless somebody else has it just now."""
        self.close()
        try:
            yield
        finally:
            self._take()

    def close(self) -> None:
        """Give it up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> None:
        if self._fd < 0:
            with suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class RecorderStore:
    """Reads what the recorder has recorded."""

    def __init__(self, state_dir: Path, *, segment_size: int = SEGMENT_SIZE) -> None:
        self._layout = Layout(state_dir.absolute())
        self._layout.make()
        self._segment_size = segment_size
        self._inotify = Inotify()
        self._read_last: dict[tuple[JobId, Channel], tuple[int, str]] = {}
        self._buffer = bytearray()
        self._spare = _SpareDescriptor()

    @property
    def sink_kind(self) -> SinkKind:
        return SinkKind.RECORDED_FIFO

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        try:
            return self._create(self._layout.job(job), channels, most)
        except OSError as error:
            await self.remove(job)
            if error.errno in _NO_ROOM:
                raise QuotaExceeded(f"there is no room for the output of a job: {error}") from error
            raise StorageUnavailable(f"the output of a job cannot be kept: {error}") from error

    def _create(self, directory: str, channels: Collection[Channel], most: int) -> Mapping[Channel, Sink]:
        size, count = segments_within(most // len(channels), self._segment_size)
        os.mkdir(directory, mode=0o700)
        sinks: dict[Channel, Sink] = {}
        for channel in channels:
            path = fifo_path(directory, channel)
            os.mkfifo(path)
            # `> /dev/stderr` opens it anew, as whatever user the job is by then. Nobody else
            # gets here: the directories above are closed.
            os.chmod(path, 0o622)  # noqa: S103
            segment = segment_path(directory, channel, 0)
            os.close(os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sinks[channel] = RecordedFifo(path, directory, size, count)
        return sinks

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        while True:
            directory, bases = self._bases(job, channel)
            try:
                size = os.lstat(segment_path(directory, channel, bases[-1])).st_size
            except FileNotFoundError:
                continue  # deleted since the look
            return Extent(bases[0], bases[-1] + size)

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        # Looking for segments costs as much as reading from one: most reads go on where the last one was.
        base, path = self._read_last.get((job, channel), (_LONGEST_FILE, ""))
        if base <= offset and (data := await self._read_segment(path, offset - base, size)):
            return data
        return await self._find_and_read(job, channel, offset, size)

    async def _find_and_read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        while True:
            directory, bases = self._bases(job, channel)
            following = bisect_right(bases, offset)
            data: bytes | None = b""
            if following:
                base = bases[following - 1]
                path = segment_path(directory, channel, base)
                data = await self._read_segment(path, offset - base, size)
            if data is None:
                continue  # deleted since the look
            if not data and size and following < len(bases):
                first = bases[following]
                raise OutputUnavailable(f"output before byte {first} is not kept", first)
            if data:
                self._remember(job, channel, base, path)
            return data

    def _remember(self, job: JobId, channel: Channel, base: int, path: str) -> None:
        if len(self._read_last) >= _MOST_READ:
            self._read_last.clear()
        self._read_last[job, channel] = base, path

    def watch(self, job: JobId) -> AbstractAsyncContextManager[DirectoryWatch]:
        return self._inotify.watch(self._layout.job(job))

    async def remove(self, job: JobId) -> None:
        for channel in Channel:
            self._read_last.pop((job, channel), None)
        await asyncio.to_thread(shutil.rmtree, self._layout.job(job), ignore_errors=True)

    async def sweep(self, keep: Collection[JobId]) -> None:
        for job in set(job_ids_among(os.listdir(self._layout.jobs))) - set(keep):
            await asyncio.to_thread(shutil.rmtree, self._layout.job(job), ignore_errors=True)

    async def close(self) -> None:
        self._inotify.close()
        self._spare.close()

    def _bases(self, job: JobId, channel: Channel) -> tuple[str, list[int]]:
        directory = self._layout.job(job)
        try:
            bases = self._listed(directory, channel)
        except FileNotFoundError:
            bases = []
        except OSError as error:  # a broken disk, perhaps
            if error.errno in _NO_DESCRIPTOR:
                raise
            raise OutputUnavailable(f"the output of job {job} cannot be read: {error}") from error
        if not bases:
            raise NoOutputKept(f"no {channel} of job {job} is kept")
        return directory, bases

    def _listed(self, directory: str, channel: Channel) -> list[int]:
        try:
            return segment_bases(directory, channel)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
        with self._spare.lent():
            return segment_bases(directory, channel)

    async def _read_segment(self, path: str, offset: int, size: int) -> bytes | None:
        """Return what is there, None if the segment is not."""
        try:
            return await self._read_file(path, offset, size)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
        with self._spare.lent():
            return await self._read_file(path, offset, size)

    async def _read_file(self, path: str, offset: int, size: int) -> bytes | None:
        if offset > _LONGEST_FILE - size:
            return b""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
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


def segments_within(most: int, size: int) -> tuple[int, int]:
    """Return size and number of segments that together hold ``most`` bytes; number 0: any, of ``size``.

    All but one are full as soon as something was deleted, so at least half of the bytes are kept. There
    are eight, fewer where they would hold less than a pipe, and more where they would be larger than
    ``size``.
    """
    if not most:
        return size, 0
    count = max(min(8, most // PIPE_SIZE), -(-most // size), 2)
    return most // count, count
