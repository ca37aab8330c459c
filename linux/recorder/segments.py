"""The segments of one channel: the recorder fills one file after the other and deletes the oldest."""

import os
from collections import deque
from contextlib import suppress

from ...core.model.channel import Channel
from ...core.steps import Step, reached
from ..state.job_directory import segment_bases, segment_path


class Segments:
    """The files that hold a channel. If a method raises OSError, no byte is lost and it can be retried.

    A segment is named by the offset of its first byte, so the first kept offset needs no separate record;
    the next segment exists before the oldest is deleted, so the names always show the size of the output.
    ``most`` is the number of segments to keep, 0: all. ``end`` is the known size of the output so far,
    even if other processes have deleted segments.
    """

    def __init__(
        self, directory: str, channel: Channel, size: int, most: int, end: int = 0, *, job: str = ""
    ) -> None:
        self._directory = directory
        self._job = job
        self._channel = channel
        self._size = size
        self._most = most
        self._bases = deque(segment_bases(directory, channel) or [end])
        self.file = self._open(self._bases[-1])
        try:
            if self.end < end:
                self._begin(end)
            self._drop_oldest(most)
        except OSError:
            os.close(self.file)
            raise

    @property
    def first(self) -> int:
        """The offset of the first kept byte."""
        return self._bases[0]

    @property
    def base(self) -> int:
        """The offset of the first byte in ``file``."""
        return self._bases[-1]

    @property
    def end(self) -> int:
        """The offset of the next byte, and so the size of the output."""
        return self._bases[-1] + os.fstat(self.file).st_size

    def fits(self, size: int) -> bool:
        """Whether this many bytes fit in ``file``."""
        status = os.fstat(self.file)
        return bool(status.st_nlink) and status.st_size + size <= self._size

    def room(self) -> tuple[int, int]:
        """Return the position of the next byte in ``file`` and how many fit; begin a segment if full."""
        while True:
            status = os.fstat(self.file)
            if not status.st_nlink:  # another process has deleted it: later output goes into a new file
                with suppress(FileExistsError):
                    os.mkdir(self._directory, mode=0o700)
            elif status.st_size < self._size:
                return status.st_size, self._size - status.st_size
            self._begin(self._bases[-1] + status.st_size)

    def replace_deleted(self) -> None:
        """Begin another segment if this one was deleted: its name shows the size of the output."""
        if not os.fstat(self.file).st_nlink:
            self.room()

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)

    def _begin(self, base: int) -> None:
        file = self._open(base)
        another = base != self._bases[-1]
        try:
            self._drop_oldest(self._most - another)
        except OSError:
            os.close(file)
            raise
        if another:
            self._bases.append(base)
        os.close(self.file)
        self.file = file

    def _open(self, base: int) -> int:
        path = segment_path(self._directory, self._channel, base)
        # Not O_APPEND: splice(2) refuses that with EINVAL.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reached(Step.SEGMENT_MADE, self._job)
        return file

    def _drop_oldest(self, left: int) -> None:
        while self._most and len(self._bases) > left:
            path = segment_path(self._directory, self._channel, self._bases[0])
            with suppress(FileNotFoundError):
                os.unlink(path)
            self._bases.popleft()
            reached(Step.SEGMENT_DROPPED, self._job)
