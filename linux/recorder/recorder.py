"""The recorder: moves what jobs write from their FIFOs into segments, by splice(2).

A process of its own that may die at any moment: what was recorded is exactly what is in the
file, so another goes on where the file ends. The main thread waits for output and commands;
a channel has a thread only while it has output, so that a slow disk holds up none but its own.
"""

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from ...core.model.channel import Channel
from ...core.steps import Step, reached
from ..ipc.framing import (
    MOST_DESCRIPTORS,
    Decoder,
    Message,
    encode,
)
from ..state.job_directory import fifo_path
from .segments import Segments

_SPLICE_F_NONBLOCK = 2
_AT_ONCE = 1 << 20
_LINGER = 20
"""Milliseconds that a thread waits for more before it ends; making another costs 0.1 ms."""

_GATHER = 0.002
"""Seconds that writes which come thick are gathered for; one that comes alone is moved at once."""

_FLOOD = 8 << 20
"""Bytes per second that are not gathered: a pipe of 64 KiB would be full before, and the job wait."""

_LINUX = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
_SPLICE_NOTIFIES = _LINUX >= (6, 8)
"""Whether inotify(7) tells of all that splice(2) writes; before, that depended on the file system."""

_AGAIN = 0.2
"""Seconds until another try of what disk or kernel refuse; a job blocks on its full pipe meanwhile."""


class Recorder:
    """All channels being recorded, and the conversation with the supervisor."""

    def __init__(self, supervisor: socket.socket, ends: "memoryview[int]") -> None:
        self.ends = ends
        self._supervisor = supervisor
        self._epoll = select.epoll()
        self._jobs: dict[str, JobRecording] = {}
        self._by_fd: dict[int, ChannelRecording] = {}
        self._sending = threading.Lock()
        self._decoder = Decoder()
        self._again: list[Callable[[], None]] = []

    def run(self) -> None:
        """Record until the supervisor has gone and nothing is left to record."""
        control = self._supervisor.fileno()
        self._epoll.register(control, select.EPOLLIN)
        while self._supervisor.fileno() >= 0 or self._jobs:
            for fd, _ in self._epoll.poll(_AGAIN if self._again else None):
                if fd == control and self._supervisor.fileno() >= 0:
                    self._read_commands()
                elif fd in self._by_fd:
                    self._by_fd[fd].wake()
            failed, self._again = self._again, []
            for step in failed:
                step()

    def arm(self, channel: "ChannelRecording") -> None:
        """Have a silent channel waited for; once, until it is armed again."""
        self._epoll.modify(channel.fifo, select.EPOLLIN | select.EPOLLONESHOT)

    def drained(self, job: str, sizes: dict[Channel, int]) -> None:
        """Tell that everything written is recorded."""
        self._jobs.pop(job, None)
        self._tell({"drained": job, "output": dict(sizes)})
        reached(Step.DRAINED_TOLD, job)

    def trouble(self, job: str, reason: str) -> None:
        """Tell why output is not being recorded just now; empty: it is again."""
        self._tell({"trouble": job, "reason": reason})

    def later(self, step: Callable[[], None]) -> None:
        """Try something again in a while that could not be done for want of something."""
        self._again.append(step)

    def forget(self, channel: "ChannelRecording") -> None:
        """Stop waiting for a channel, before its descriptor is closed."""
        if self._by_fd.pop(channel.fifo, None):
            self._epoll.unregister(channel.fifo)

    def _tell(self, message: Message) -> None:
        try:
            with self._sending:
                self._supervisor.sendall(encode(message))
        except OSError:
            pass  # it has gone; the next supervisor asks again

    def _read_commands(self) -> None:
        try:
            # With a job come descriptors of its FIFOs: they are held until we have opened them ourselves.
            data, held, *_ = socket.recv_fds(self._supervisor, 65536, MOST_DESCRIPTORS)
        except ConnectionError:  # it died with words of ours unread
            data, held = b"", []
        if not data:
            self._epoll.unregister(self._supervisor.fileno())
            self._supervisor.close()
        for message in self._decoder.feed(data):
            match message:
                case {
                    "record": str(job),
                    "directory": str(directory),
                    "channels": list(channels),
                    "segment_size": int(segment_size),
                    "ends": list(numbers),
                }:
                    names = [Channel(str(each)) for each in channels]
                    most = int(str(message.get("most_segments", 0)))
                    ends = dict(zip(names, map(int, numbers), strict=True))
                    self._record(JobRecording(self, job, directory, ends, segment_size, most))
                case {"finish": str(job)} if job in self._jobs:
                    self._jobs[job].finish()
                case {"drop": str(job)} if job in self._jobs:
                    self._jobs.pop(job).drop()
        for fd in held:
            os.close(fd)

    def _record(self, recording: "JobRecording") -> None:
        self._jobs[recording.job] = recording
        self._begin(recording)

    def _begin(self, recording: "JobRecording") -> None:
        """Begin to record, now or as soon as there are descriptors and a disk for it."""
        if self._jobs.get(recording.job) is not recording:
            return  # dropped meanwhile
        try:
            recording.open()
        except OSError as error:
            recording.trouble(None, error.strerror or str(error))
            self.later(partial(self._begin, recording))
            return
        for channel in recording.channels:
            self._by_fd[channel.fifo] = channel
            self._epoll.register(channel.fifo, select.EPOLLIN | select.EPOLLONESHOT)
        recording.opened()


class JobRecording:
    """The channels of one job."""

    def __init__(
        self,
        recorder: Recorder,
        job: str,
        directory: str,
        ends: Mapping[Channel, int],
        segment_size: int,
        most_segments: int,
    ) -> None:
        self.job = job
        self._recorder = recorder
        self._directory = directory
        self._ends = ends
        self._segment_size = segment_size
        self._most_segments = most_segments
        self._lock = threading.Lock()
        self._sizes: dict[Channel, int] = {}
        self._troubles: dict[Channel | None, str] = {}
        self._finishing = False
        self.channels: list[ChannelRecording] = []

    def open(self) -> None:
        """Open FIFOs and segments, all or none; OSError if that cannot be."""
        try:
            for name, number in self._ends.items():
                # O_RDWR: never an end of file, whoever else has it open.
                fifo = os.open(fifo_path(self._directory, name), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    end = self._recorder.ends[number]
                    segments = Segments(self._directory, name, self._segment_size, self._most_segments, end)
                except OSError:
                    os.close(fifo)
                    raise
                self.channels.append(ChannelRecording(self._recorder, self, name, number, fifo, segments))
        except OSError:
            self.drop()
            self.channels.clear()
            raise

    def opened(self) -> None:
        """Go on with what was asked for before that."""
        self.trouble(None, "")
        if self._finishing:
            self.finish()

    def finish(self) -> None:
        """Record what is still in the FIFOs, then tell the sizes."""
        self._finishing = True
        for channel in self.channels:
            channel.finish()

    def drop(self) -> None:
        """Stop at once."""
        for channel in self.channels:
            channel.close()

    def complete(self, channel: "ChannelRecording", size: int) -> None:
        """Note the size of a channel that is complete."""
        with self._lock:
            self._sizes[channel.name] = size
            last = len(self._sizes) == len(self.channels)
        if last:
            self._recorder.drained(self.job, self._sizes)

    def trouble(self, channel: Channel | None, reason: str) -> None:
        """Note why a channel is not being recorded, None: any; empty: it is again. Tell what is new."""
        with self._lock:
            before = self._first_trouble()
            self._troubles[channel] = reason
            after = self._first_trouble()
        if after != before:
            self._recorder.trouble(self.job, after)

    def _first_trouble(self) -> str:
        return next(filter(None, self._troubles.values()), "")


class ChannelRecording:
    """One FIFO and the segments that it is emptied into."""

    def __init__(
        self,
        recorder: Recorder,
        job: JobRecording,
        name: Channel,
        number: int,
        fifo: int,
        segments: Segments,
    ) -> None:
        self.name = name
        self._number = number
        self.fifo = fifo
        self._recorder = recorder
        self._job = job
        self._segments = segments
        self._lock = threading.Lock()
        self._finishing = False
        self._pumping = False
        self._hurry = -1  # an eventfd(2), while the thread may be waiting for more
        self._troubled = False
        self._waiting = select.poll()
        self._waiting.register(fifo, select.POLLIN)

    def wake(self) -> None:
        """There is output: pump until there is no more."""
        with self._lock:
            if self._pumping:
                return
            self._pumping = True
        try:
            threading.Thread(target=self._pump, daemon=True).start()
        except RuntimeError:  # as many threads as the system gives
            self._pumping = False
            self._recorder.later(self.wake)

    def finish(self) -> None:
        """Pump what is left, then complete."""
        with self._lock:
            self._finishing = True
            if self._hurry >= 0:
                os.eventfd_write(self._hurry, 1)
        self.wake()

    def close(self) -> None:
        """Let go of FIFO and segment."""
        self._recorder.forget(self)
        os.close(self.fifo)
        self._segments.close()

    def _pump(self) -> None:
        more = select.poll()
        more.register(self.fifo, select.POLLIN)
        try:
            self._hurry = hurry = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            more.register(hurry, select.POLLIN)
        except OSError:  # no descriptor: the end waits as long as we linger
            hurry = -1
        complete = self._pump_until_silent(more)
        if hurry >= 0:
            os.close(hurry)
        if complete:
            with suppress(OSError):  # a full disk; who reads is told that nothing is left
                self._segments.replace_deleted()
            size = self._segments.end
            self.close()
            self._job.complete(self, size)

    def _pump_until_silent(self, more: select.poll) -> bool:
        """Pump until there is no more for a while; return whether there never will be."""
        rate, moved_at = 0.0, time.monotonic()
        while True:
            moved, before, moved_at = self._move_all(), moved_at, time.monotonic()
            rate = max(
                rate / 2, moved / max(moved_at - before, 1e-6)
            )  # falls slowly: a pause is no end of a flood
            if not self._finishing and more.poll(_LINGER):
                if rate < _FLOOD and time.monotonic() - moved_at < _GATHER and self._waiting.poll(0):
                    time.sleep(_GATHER)
                continue
            with self._lock:
                if not self._finishing:
                    self._recorder.arm(self)
                elif self._waiting.poll(0):
                    continue
                self._hurry = -1
                self._pumping = self._finishing
                return self._finishing

    def _move_all(self) -> int:
        """Splice until the FIFO is empty; return how many bytes that were."""
        moved = 0
        # Looked for first: before there is output no segment is begun, nor another deleted for it.
        while self._waiting.poll(0):
            try:
                size, room = self._segments.room()
                spliced = os.splice(
                    self.fifo,
                    self._segments.file,
                    min(_AT_ONCE, room),
                    offset_dst=size,
                    flags=_SPLICE_F_NONBLOCK,
                )
                moved += spliced
                self._recorder.ends[self._number] = self._segments.base + size + spliced
                reached(Step.SPLICED, self._job.job)
            except BlockingIOError:  # somebody else has read it
                break
            except OSError as error:  # a full disk, most likely; what is in the pipe stays there
                self._troubled = True
                self._job.trouble(self.name, error.strerror or str(error))
                time.sleep(_AGAIN)
            else:
                if self._troubled:
                    self._troubled = False
                    self._job.trouble(self.name, "")
        if moved and not _SPLICE_NOTIFIES:
            os.utime(self._segments.file)
        return moved
