"""Reading the index of times of a channel: from an offset to a time, and from a time to an offset."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import TimesNotKept
from ...core.model.channel import Channel
from ...core.model.job import Extent, Stamp
from ...core.model.stream_times import LATEST_TIME
from ..state.job_directory import times_bases, times_path
from ..state.time_entries import columns


class ChannelTimes:
    """The index of a channel as it is now; a file that is deleted meanwhile counts as empty."""

    def __init__(self, directory: str, channel: Channel) -> None:
        try:
            self._bases = times_bases(directory, channel)
        except FileNotFoundError:
            self._bases = []
        self._paths = [times_path(directory, channel, base) for base in self._bases]

    def stamps(self, start: int, end: int) -> Sequence[Stamp]:
        """Return the times of the bytes from ``start`` to ``end``; TimesNotKept if the first is unknown."""
        found: list[Stamp] = []
        holding = bisect_right(self._bases, start) - 1
        for number in range(holding, -1, -1):
            offsets, times = self._entries(number)
            if before := bisect_right(offsets, start):
                found.append(Stamp(start, times[before - 1]))
                break
        else:
            raise _times_not_kept(min(self._known_from(end), end))
        for number in range(holding, bisect_left(self._bases, end)):
            offsets, times = self._entries(number)
            for each in range(bisect_right(offsets, start), bisect_left(offsets, end)):
                if offsets[each] == found[-1].offset:
                    found.pop()
                # A file that is damaged may have entries in any order.
                if offsets[each] < end and (not found or offsets[each] > found[-1].offset):
                    found.append(Stamp(offsets[each], times[each]))
        return found

    def offset_at(self, time_ms: int, extent: Extent) -> int:
        """Return the offset of the first byte of an extent written at this time or later, or the end.

        Raises TimesNotKept if that may be a byte whose time is not known.
        """
        files = range(len(self._paths))
        after = bisect_left(files, time_ms, key=self._first_time)
        found = extent.end
        for number in files[max(0, after - 1) : after + 1]:  # in the file before, or first in this one
            offsets, times = self._entries(number)
            entry = bisect_left(times, time_ms)
            if entry < len(offsets):
                found = offsets[entry]
                break
        known = self._known_from(extent.end)
        if extent.first < known and found <= known and extent.first < extent.end:
            raise _times_not_kept(min(known, extent.end))
        return min(max(found, extent.first), extent.end)

    def _known_from(self, end: int) -> int:
        """Return the offset of the first entry, or ``end``."""
        entries = map(self._entries, range(len(self._paths)))
        return next((offsets[0] for offsets, _ in entries if offsets), end)

    def _first_time(self, number: int) -> int:
        _, times = self._entries(number)
        return times[0] if times else LATEST_TIME

    def _entries(self, number: int) -> "tuple[memoryview[int], memoryview[int]]":
        try:
            return columns(Path(self._paths[number]).read_bytes())
        except FileNotFoundError:
            return columns(b"")


def _times_not_kept(end: int) -> TimesNotKept:
    """Return the error for the bytes before ``end``."""
    return TimesNotKept(
        f"it is not known when the output before byte {end} was written: the job was started by an earlier "
        "version, or there was no room for the times"
    )
