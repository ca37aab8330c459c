"""An OutputStore with one regular file for each channel, which the job itself appends to."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from worker.core import (
    AppendedFile,
    Channel,
    Extent,
    InvalidJobSpec,
    JobId,
    NoOutputKept,
    Sink,
    SinkKind,
    StorageUnavailable,
    job_ids_among,
)

POLL = 0.05
"""Seconds between checks of a file that is followed."""

LONGEST_FILE = (1 << 63) - 1
"""pread(2) takes no larger offset."""


class FileWatch:
    """A Watch that compares the sizes of files."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._notified = asyncio.Event()
        self._seen = self._sizes()

    async def changed(self) -> None:
        """Return when a file has another size than at the last call, or after ``notify``."""
        while self._sizes() == self._seen and not self._notified.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._notified.wait(), POLL)
        self._seen = self._sizes()
        self._notified.clear()

    def notify(self) -> None:
        """Make ``changed`` return."""
        self._notified.set()

    def _sizes(self) -> list[int]:
        return [file.stat().st_size if file.exists() else 0 for file in self._files]


class FileStore:
    """Keeps the output of a job in DIRECTORY/JOB/CHANNEL."""

    sink_kind = SinkKind.APPENDED_FILE

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def create(
        self, job: JobId, channels: Collection[Channel], most: int = 0
    ) -> Mapping[Channel, Sink]:
        """Make an empty file for each channel."""
        if most:
            raise InvalidJobSpec("output max", "the output store example-files can only keep all output")
        sinks: dict[Channel, Sink] = {}
        try:
            self._of(job).mkdir(mode=0o700)
            for channel in channels:
                file = self._of(job) / channel
                file.touch(mode=0o600)
                sinks[channel] = AppendedFile(str(file))
        except OSError as error:
            await self.remove(job)
            raise StorageUnavailable(f"the output of a job cannot be kept: {error}") from error
        return sinks

    async def extent(self, job: JobId, channel: Channel) -> Extent:
        """Return which bytes are kept: all."""
        try:
            return Extent(0, (self._of(job) / channel).stat().st_size)
        except FileNotFoundError:
            raise NoOutputKept(f"no {channel} of job {job} is kept") from None

    async def read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``offset``, none at the end."""
        if offset > LONGEST_FILE - size:
            return b""
        return await asyncio.to_thread(self._read, job, channel, offset, size)

    def _read(self, job: JobId, channel: Channel, offset: int, size: int) -> bytes:
        try:
            file = os.open(self._of(job) / channel, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoOutputKept(f"no {channel} of job {job} is kept") from None
        try:
            return os.pread(file, size, offset)
        finally:
            os.close(file)

    @asynccontextmanager
    async def watch(self, job: JobId) -> AsyncIterator[FileWatch]:
        """Watch all channels of a job."""
        yield FileWatch(self._of(job) / channel for channel in Channel)

    async def remove(self, job: JobId) -> None:
        """Delete a job's output. Idempotent."""
        await asyncio.to_thread(shutil.rmtree, self._of(job), ignore_errors=True)

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Delete the output of every job that is none of these."""
        for job in set(job_ids_among(os.listdir(self._directory))) - set(keep):
            await self.remove(job)

    async def close(self) -> None:
        """Release nothing: no file stays open between calls."""

    def _of(self, job: JobId) -> Path:
        return self._directory / str(job)
