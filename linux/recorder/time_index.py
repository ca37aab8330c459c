"""When the output of one channel was written: the recorder's side of the index of times.

An entry is written before its bytes are, at most ten per second on average, and at most 20 at once. Between
two entries a write costs one look at the clock and no system call.
"""

import os
import time
from collections import deque
from contextlib import suppress
from errno import ENOSPC
from itertools import pairwise

from ...core.model.channel import Channel
from ...core.steps import Step, reached
from ..state.job_directory import times_bases, times_path
from ..state.time_entries import ENTRY, columns
from .segments import Segments

INTERVAL = 0.1
"""Seconds between two entries, on average: how much too early the time of a byte may be."""

_SAVED = 2.0
"""Seconds whose entries may be written at once: a job that writes little has a time for each write."""

LEAST, MOST = 4096, 1 << 20
"""Bounds of the size of one file in bytes: a page, and what is thinned out in 20 ms."""


class TimeIndex:
    """The files with the times of a channel: one for each segment in which an entry was due.

    Bytes without an entry in the file of their segment have the last time of the file before. A file is
    deleted when the next one covers the first kept byte. No error of a file reaches the caller: without an
    entry, bytes have the time of the entry before.
    """

    def __init__(
        self, segments: Segments, directory: str, channel: Channel, segment_size: int, *, job: str = ""
    ) -> None:
        self._segments = segments
        self._directory = directory
        self._channel = channel
        self._job = job
        self._limit = min(max(segment_size // 16, LEAST), MOST)
        self._due = 0.0
        self._bases: deque[int] | None = None
        self._noted: int | None = None

    def note(self, offset: int) -> None:
        """Write an entry if one is due. Call this before the byte at ``offset`` is written."""
        now = time.monotonic()
        if now >= self._due:
            self._due = max(self._due, now - _SAVED) + INTERVAL
            with suppress(OSError):  # such as a full disk, which must not delay the output
                self._add(offset)
                reached(Step.TIME_NOTED, self._job)

    def _add(self, offset: int) -> None:
        if self._bases is None:
            self._bases = deque(times_bases(self._directory, self._channel))
        if self._bases and self._bases[-1] >= self._segments.base:
            self._append(self._path(self._bases[-1]), offset)
        else:
            self._bases.append(offset)
            self._append(self._path(offset), offset)
            self._drop_unneeded(self._bases)

    def _append(self, path: str, offset: int) -> None:
        # Opened for each entry: most jobs write little, and descriptors are scarce.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            position = os.lseek(file, 0, os.SEEK_END) // ENTRY.size * ENTRY.size  # replaces a torn entry
            if position and offset == self._noted:  # nothing was written since: the disk was full
                position -= ENTRY.size
            if position < self._limit:
                # 0 means no entry, and a clock may be that wrong.
                entry = ENTRY.pack(offset, max(1, time.time_ns() // 1_000_000))
                if os.pwrite(file, entry, position) == ENTRY.size:
                    self._noted = offset
                return
        finally:
            os.close(file)
        self._noted = None
        self._thin(path)
        self._append(path, offset)

    def _thin(self, path: str) -> None:
        """Replace a full file by one with at most half of its entries, each some time after the one before.

        That time is a power of two, so that the next thinning either drops none of these entries or doubles
        it: errors do not add up.
        """
        with open(path, "rb", buffering=0) as full:
            data = full.readall()
        _, times = columns(data)
        total = sum(abs(after - before) for before, after in pairwise(times))
        step = 1 << (2 * total // max(1, len(times))).bit_length()
        kept, last = bytearray(data[: ENTRY.size]), times[0] if times else 0
        for number, written in enumerate(times):
            if abs(written - last) >= step:
                kept += data[number * ENTRY.size : (number + 1) * ENTRY.size]
                last = written
        new = times_path(self._directory, self._channel, "new")
        with open(new, "wb", buffering=0) as thinned:
            if thinned.write(kept) < len(kept):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        os.rename(new, path)

    def _drop_unneeded(self, bases: deque[int]) -> None:
        while len(bases) > 1 and bases[1] <= self._segments.first:
            with suppress(FileNotFoundError):
                os.unlink(self._path(bases[0]))
            bases.popleft()

    def _path(self, base: int) -> str:
        return times_path(self._directory, self._channel, base)
