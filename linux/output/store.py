"""The OutputStore of recorded output: FIFOs for the recorder, segments for readers."""

import asyncio
import errno
import os
import shutil
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ...core.errors import (
    NoOutputKept,
    OutputUnavailable,
    QuotaExceeded,
    StorageUnavailable,
    TimesNotKept,
)
from ...core.model.ending import Channel
from ...core.model.job import Extent, JobId, Stamp, job_ids_among
from ...core.ports import RecordedFifo, Sink, SinkKind
from ..state.job_directory import STDIN, fifo_path, segment_bases, segment_path
from ..state.layout import Layout
from .inotify import DirectoryWatch, Inotify
from .times import ChannelTimes

_Found = TypeVar("_Found")

SEGMENT_SIZE = 64 << 20
"""Bytes in a segment: bounded output is deleted in steps of this size."""

PIPE_SIZE = 65536
"""Bytes in a FIFO (pipe(7)): smaller segments would only mean more files."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}

_LONGEST_FILE = (1 << 63) - 1
"""The maximum of off_t: pread(2) rejects larger offsets."""

_MOST_CACHED = 1024
"""Channels whose last read segment is cached."""


class _SpareDescriptor:
    """A reserved descriptor for reads when no other is free: new clients must not break running streams."""

    def __init__(self) -> None:
        self._fd = -1
        self._reserve()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Free the descriptor for the caller, unless another caller uses it now."""
        self.close()
        try:
            yield
        finally:
            self._reserve()

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _reserve(self) -> None:
        if self._fd < 0:
            with suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class RecorderStore:
    """Makes FIFOs for the recorder, and reads the segments that it has recorded."""

    def __init__(self, state_dir: Path, *, segment_size: int = SEGMENT_SIZE) -> None:
        self._layout = Layout(state_dir.absolute())
        self._layout.make()
        self._segment_size = segment_size
        self._inotify = Inotify(ignored=STDIN)
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
                raise QuotaExceeded(f"there is no space for the output of a job: {error}") from error
            raise StorageUnavailable(f"the output of a job cannot be kept: {error}") from error

    def _create(self, directory: str, channels: Collection[Channel], most: int) -> Mapping[Channel, Sink]:
        size, count = segments_within(most // len(channels), self._segment_size)
        os.mkdir(directory, mode=0o700)
        sinks: dict[Channel, Sink] = {}
        for channel in channels:
            path = fifo_path(directory, channel)
            os.mkfifo(path)
            # `> /dev/stderr` opens the FIFO again, as the user of the job. Other users cannot reach it:
            # only this user may enter the directories above.
            os.chmod(path, 0o622)  # noqa: S103
            segment = segment_path(directory, channel, 0)
            os.close(os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            sinks[channel] = RecordedFifo(path, directory, size, count, times=True)
        return sinks

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        while True:
            directory, bases = self._bases(job, channel)
            try:
                size = os.lstat(segment_path(directory, channel, bases[-1])).st_size
            except FileNotFoundError:
                continue  # deleted after it was listed
            return Extent(bases[0], bases[-1] + size)

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        # Listing segments costs as much as reading from one, and most reads continue in the last one.
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
                continue  # deleted after it was listed
            if not data and size and following < len(bases):
                first = bases[following]
                raise OutputUnavailable(f"output before byte {first} is not kept", first)
            if data:
                self._remember(job, channel, base, path)
            return data

    def _remember(self, job: JobId, channel: Channel, base: int, path: str) -> None:
        if len(self._read_last) >= _MOST_CACHED:
            self._read_last.clear()
        self._read_last[job, channel] = base, path

    async def times(self, job: JobId, channel: Channel, offset: int, size: int) -> Sequence[Stamp]:
        def search(index: ChannelTimes, extent: Extent) -> Sequence[Stamp]:
            if offset < extent.first:
                raise OutputUnavailable(f"output before byte {extent.first} is not kept", extent.first)
            return index.stamps(offset, offset + size)

        return await self._in_index(job, channel, search)

    async def offset_at(self, job: JobId, channel: Channel, time_ms: int) -> int:
        return await self._in_index(job, channel, lambda index, extent: index.offset_at(time_ms, extent))

    async def _in_index(
        self, job: JobId, channel: Channel, search: Callable[[ChannelTimes, Extent], _Found]
    ) -> _Found:
        """Search the index of times; again if output, and with it a part of the index, was deleted."""
        while True:
            extent = await self.extent(job, channel)
            try:
                return await self._search(self._layout.job(job), channel, extent, search)
            except TimesNotKept:
                if (await self.extent(job, channel)).first == extent.first:
                    raise

    async def _search(
        self,
        directory: str,
        channel: Channel,
        extent: Extent,
        search: Callable[[ChannelTimes, Extent], _Found],
    ) -> _Found:
        """Search in another thread: the index is read from the disk."""

        def searched() -> _Found:
            return search(ChannelTimes(directory, channel), extent)

        try:
            return await asyncio.to_thread(searched)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise OutputUnavailable(f"the times in {directory} cannot be read: {error}") from error
        with self._spare.released():
            return await asyncio.to_thread(searched)

    def watch(self, job: JobId) -> AbstractAsyncContextManager[DirectoryWatch]:
        return self._inotify.watch(self._layout.job(job))

    async def remove(self, job: JobId) -> None:
        for channel in Channel:
            self._read_last.pop((job, channel), None)
        await asyncio.to_thread(_delete, self._layout.job(job))

    async def sweep(self, keep: Collection[JobId]) -> None:
        for job in set(job_ids_among(os.listdir(self._layout.jobs))) - set(keep):
            await asyncio.to_thread(_delete, self._layout.job(job))

    async def close(self) -> None:
        self._inotify.close()
        self._spare.close()

    def _bases(self, job: JobId, channel: Channel) -> tuple[str, list[int]]:
        directory = self._layout.job(job)
        try:
            bases = self._listed(directory, channel)
        except FileNotFoundError:
            bases = []
        except OSError as error:  # such as EIO of a broken disk
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
        with self._spare.released():
            return segment_bases(directory, channel)

    async def _read_segment(self, path: str, offset: int, size: int) -> bytes | None:
        """Return bytes of a segment, None if it does not exist."""
        try:
            return await self._read_file(path, offset, size)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
        with self._spare.released():
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
                # Linux 4.14: EAGAIN if the bytes are not in the page cache, so that a disk never blocks us.
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


def _delete(directory: str) -> None:
    """Delete the directory of a job, as far as possible."""
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except OSError:  # not our files only; rmtree takes twice as long
        shutil.rmtree(directory, ignore_errors=True)


def segments_within(most: int, size: int) -> tuple[int, int]:
    """Return size and number of segments that together hold ``most`` bytes; number 0: unbounded.

    All but one are full once a segment was deleted, so at least half of the bytes are kept. There are
    eight segments; fewer if each would hold less than a pipe, more if each would be larger than ``size``.
    """
    if not most:
        return size, 0
    count = max(min(8, most // PIPE_SIZE), -(-most // size), 2)
    return most // count, count
