"""The recording of one job: all its channels, and their combined state."""

import os
import threading
from collections.abc import Sequence

from ...core.model.channel import Channel
from ..state.job_directory import fifo_path
from .channel_recording import ChannelRecording
from .segments import Segments
from .terminal_relay import TerminalRelay
from .time_index import TimeIndex

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from ..ipc.framing import Message
    from .recorder import Recorder


Sink = tuple[Channel, int, str, str, int, int, bool]
"""A channel, its index in the shared offsets, and the fields of its RecordedFifo.

No class: dataclasses or typing would make a recorder larger.
"""


def sinks_of(message: "Message") -> list[Sink]:
    """Return what a ``record`` message requests; nothing if it is incomplete."""
    match message:
        case {"channels": list(channels), "ends": list(indexes), "sinks": list(sinks)}:
            found = [
                (
                    each["path"],
                    each["directory"],
                    each["segment_size"],
                    each.get("most_segments", 0),
                    each.get("times", False),
                )
                for each in sinks
            ]
        case {
            "channels": list(channels),
            "ends": list(indexes),
            "directory": str(directory),
            "segment_size": int(size),
        }:  # from a supervisor of commit d0089e9 or earlier: all files are in the directory of the job
            most = int(str(message.get("most_segments", 0)))
            found = [(fifo_path(directory, each), directory, size, most, False) for each in channels]
        case _:
            return []
    return [
        (Channel(channel), int(index), *sink)
        for channel, index, sink in zip(channels, indexes, found, strict=True)
    ]


class JobRecording:
    """The channels of one job."""

    def __init__(
        self, recorder: "Recorder", job: str, sinks: Sequence[Sink], *, terminal: bool = False
    ) -> None:
        self.job = job
        self._terminal = terminal
        self.gathers = not terminal
        """Whether frequent small writes are gathered; a terminal shows each key at once."""
        self._relay: TerminalRelay | None = None
        self._master = -1
        self._recorder = recorder
        self._sinks = sinks
        self._lock = threading.Lock()
        self._sizes: dict[Channel, int] = {}
        self._missing: dict[Channel, int] = {}
        self._may_discard = False
        self._troubles: dict[Channel | None, str] = {}
        self._draining = False
        self.channels: list[ChannelRecording] = []

    def open(self) -> None:
        """Open FIFOs and segments, all or none; OSError if that fails."""
        try:
            for name, index, path, directory, segment_size, most_segments, has_times in self._sinks:
                # O_RDWR: there is never an end of file, whichever processes have it open.
                fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    end = self._recorder.offsets[index]
                    segments = Segments(directory, name, segment_size, most_segments, end, job=self.job)
                except OSError:
                    os.close(fifo)
                    raise
                times = (
                    TimeIndex(segments, directory, name, segment_size, job=self.job) if has_times else None
                )
                reserve = self._recorder.reserve_of(directory)
                self.channels.append(
                    ChannelRecording(self._recorder, self, name, index, fifo, segments, times, reserve)
                )
        except OSError:
            self.drop()
            self.channels.clear()
            raise

    def opened(self) -> None:
        """Clear the trouble, and continue with what was requested before."""
        self.trouble(None, "")
        if self._master >= 0:
            self.relay(self._master)
        if self._draining:
            self.drain()

    def drain(self, *, discard: bool = False) -> None:
        """Record the bytes that are still in the terminal and in the FIFOs, then report the sizes.

        ``discard``: discard those that cannot be recorded, and report how many.
        """
        self._draining = True
        self._may_discard = self._may_discard or discard
        for channel in self.channels:  # also while the terminal is emptied into the FIFO
            channel.job_ended(discard=self._may_discard)
        if self._relay is not None:
            self._relay.wake()
        elif not self._terminal:
            for channel in self.channels:
                channel.drain()

    def relay(self, master: int) -> None:
        """Record what the job writes to the terminal with this master, as soon as the FIFOs are open."""
        self._master = master
        if self.channels:
            self._relay = TerminalRelay(self._recorder, self, master, self.channels[0].fifo)
            self._recorder.begin_relay(self._relay)

    def relayed(self) -> None:
        """Continue to drain: the terminal is empty."""
        if self._draining:
            self._close_relay()
            self.drain()

    def _close_relay(self) -> None:
        self._terminal = False
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def drop(self) -> None:
        """Stop at once."""
        self._close_relay()
        for channel in self.channels:
            channel.close()

    def complete(self, channel: ChannelRecording, size: int, missing: int) -> None:
        """Store the size of a complete channel; after the last one, report that the job is drained."""
        with self._lock:
            self._sizes[channel.name] = size
            if missing:
                self._missing[channel.name] = missing
            last = len(self._sizes) == len(self.channels)
        if last:
            self._recorder.drained(self.job, self._sizes, self._missing)

    def trouble(self, channel: Channel | None, reason: str) -> None:
        """Store why a channel (None: any) cannot be recorded, empty: it can. Report a change."""
        with self._lock:
            before = self._first_trouble()
            self._troubles[channel] = reason
            after = self._first_trouble()
        if after != before:
            self._recorder.trouble(self.job, after)

    def _first_trouble(self) -> str:
        return next(filter(None, self._troubles.values()), "")
