"""The recording of one job: all its channels, and their combined state."""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...core.model.channel import Channel
from ..state.job_directory import fifo_path
from .channel_recording import ChannelRecording
from .segments import Segments

if TYPE_CHECKING:
    from .recorder import Recorder


class JobRecording:
    """The channels of one job; ``indexes`` are those of the channels in the shared offsets."""

    def __init__(
        self,
        recorder: "Recorder",
        job: str,
        directory: str,
        indexes: Mapping[Channel, int],
        segment_size: int,
        most_segments: int,
    ) -> None:
        self.job = job
        self._recorder = recorder
        self._directory = directory
        self._indexes = indexes
        self._segment_size = segment_size
        self._most_segments = most_segments
        self._lock = threading.Lock()
        self._sizes: dict[Channel, int] = {}
        self._troubles: dict[Channel | None, str] = {}
        self._finishing = False
        self.channels: list[ChannelRecording] = []

    def open(self) -> None:
        """Open FIFOs and segments, all or none; OSError if that fails."""
        try:
            for name, index in self._indexes.items():
                # O_RDWR: there is never an end of file, whichever processes have it open.
                fifo = os.open(fifo_path(self._directory, name), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    end = self._recorder.offsets[index]
                    segments = Segments(self._directory, name, self._segment_size, self._most_segments, end)
                except OSError:
                    os.close(fifo)
                    raise
                self.channels.append(ChannelRecording(self._recorder, self, name, index, fifo, segments))
        except OSError:
            self.drop()
            self.channels.clear()
            raise

    def opened(self) -> None:
        """Clear the trouble, and apply a ``finish`` that arrived before."""
        self.trouble(None, "")
        if self._finishing:
            self.finish()

    def finish(self) -> None:
        """Record what is still in the FIFOs, then report the sizes."""
        self._finishing = True
        for channel in self.channels:
            channel.finish()

    def drop(self) -> None:
        """Stop at once."""
        for channel in self.channels:
            channel.close()

    def complete(self, channel: ChannelRecording, size: int) -> None:
        """Store the size of a complete channel; after the last one, report that the job is drained."""
        with self._lock:
            self._sizes[channel.name] = size
            last = len(self._sizes) == len(self.channels)
        if last:
            self._recorder.drained(self.job, self._sizes)

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
