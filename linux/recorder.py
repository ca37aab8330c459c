"""The recorder: moves what jobs write from their FIFOs into segments, by splice(2).

A process of its own that may die at any moment: what was recorded is exactly what is in the
file, so another goes on where the file ends. The main thread waits for output and commands;
a channel has a thread only while it has output, so that a slow disk holds up none but its own.
"""

import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..core.ending import Channel
from ..core.steps import Step, reached
from . import fuse
from .layout import fifo_path, segment_bases, segment_path
from .locks import open_lock, seize_lock
from .messages import Decoder, Message, encode

_SPLICE_F_NONBLOCK = 2
_AT_ONCE = 1 << 20
_LINGER = 20
"""Milliseconds that a thread waits for more before it ends; making another costs 0.1 ms."""

_AGAIN = 0.2
"""Seconds until another try of what disk or kernel refuse; a job blocks on its full pipe meanwhile."""


class Recorder:
    """All channels being recorded, and the conversation with the supervisor."""

    def __init__(self, supervisor: socket.socket) -> None:
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
        reached(Step.DRAINED_TOLD)

    def trouble(self, job: str, reason: str) -> None:
        """Tell why output is not being recorded."""
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
            data = self._supervisor.recv(65536)
        except ConnectionError:  # it died with words of ours unread
            data = b""
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
                }:
                    names = [Channel(str(each)) for each in channels]
                    self._record(job, Path(directory), names, segment_size)
                case {"finish": str(job)} if job in self._jobs:
                    self._jobs[job].finish()
                case {"drop": str(job)} if job in self._jobs:
                    self._jobs.pop(job).drop()

    def _record(self, job: str, directory: Path, channels: list[Channel], segment_size: int) -> None:
        recording = self._jobs[job] = JobRecording(self, job, directory, channels, segment_size)
        self._begin(job, recording)

    def _begin(self, job: str, recording: "JobRecording") -> None:
        """Begin to record, now or as soon as there are descriptors and a disk for it."""
        if self._jobs.get(job) is not recording:
            return  # dropped meanwhile
        try:
            recording.open()
        except OSError as error:
            self.trouble(job, str(error))
            self.later(partial(self._begin, job, recording))
            return
        for channel in recording.channels:
            self._by_fd[channel.fifo] = channel
            self._epoll.register(channel.fifo, select.EPOLLIN | select.EPOLLONESHOT)
        recording.opened()


class JobRecording:
    """The channels of one job."""

    def __init__(
        self, recorder: Recorder, job: str, directory: Path, channels: list[Channel], segment_size: int
    ) -> None:
        self._recorder = recorder
        self._job = job
        self._directory = directory
        self._names = channels
        self._segment_size = segment_size
        self._lock = threading.Lock()
        self._sizes: dict[Channel, int] = {}
        self._finishing = False
        self.channels: list[ChannelRecording] = []

    def open(self) -> None:
        """Open FIFOs and segments, all or none; OSError if that cannot be."""
        try:
            for name in self._names:
                channel = ChannelRecording(self._recorder, self, self._directory, name, self._segment_size)
                self.channels.append(channel)
        except OSError:
            self.drop()
            self.channels.clear()
            raise

    def opened(self) -> None:
        """Go on with what was asked for before that."""
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
            self._recorder.drained(self._job, self._sizes)

    def trouble(self, reason: str) -> None:
        """Tell why output is not being recorded."""
        self._recorder.trouble(self._job, reason)


class ChannelRecording:
    """One FIFO and the segments that it is emptied into."""

    def __init__(
        self, recorder: Recorder, job: JobRecording, directory: Path, name: Channel, segment_size: int
    ) -> None:
        self.name = name
        self._recorder = recorder
        self._job = job
        self._directory = directory
        self._segment_size = segment_size
        self._lock = threading.Lock()
        self._finishing = False
        self._pumping = False
        # O_RDWR: never an end of file, whoever else has it open.
        self.fifo = os.open(fifo_path(directory, name), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._base = max(segment_bases(directory, name), default=0)
            self._segment = self._open_segment(self._base)
        except OSError:
            os.close(self.fifo)
            raise

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
        self.wake()

    def close(self) -> None:
        """Let go of FIFO and segment."""
        self._recorder.forget(self)
        os.close(self.fifo)
        os.close(self._segment)

    def _pump(self) -> None:
        poll = select.poll()
        poll.register(self.fifo, select.POLLIN)
        while True:
            self._move_all()
            if not self._finishing and poll.poll(_LINGER):
                continue
            with self._lock:
                if not self._finishing:
                    self._pumping = False
                    self._recorder.arm(self)
                    return
            if not poll.poll(0):
                break
        size = self._base + self._size()
        self.close()
        self._job.complete(self, size)

    def _move_all(self) -> None:
        """Splice until the FIFO is empty."""
        while True:
            try:
                size = self._size()
                if size >= self._segment_size:
                    self._next_segment()
                    size = 0
                os.splice(
                    self.fifo,
                    self._segment,
                    min(_AT_ONCE, self._segment_size - size),
                    offset_dst=size,
                    flags=_SPLICE_F_NONBLOCK,
                )
                reached(Step.SPLICED)
            except BlockingIOError:
                return
            except OSError as error:  # a full disk, most likely; what is in the pipe stays there
                self._job.trouble(f"{self._directory}: {error.strerror}")
                time.sleep(_AGAIN)

    def _size(self) -> int:
        return os.fstat(self._segment).st_size

    def _next_segment(self) -> None:
        following = self._open_segment(self._base + self._segment_size)
        os.close(self._segment)
        self._base += self._segment_size
        self._segment = following

    def _open_segment(self, base: int) -> int:
        path = segment_path(self._directory, self.name, base)
        # Not O_APPEND: splice(2) refuses that with EINVAL.
        segment = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reached(Step.SEGMENT_MADE)
        return segment


def main() -> None:
    """Run as ``python -m worker.linux.recorder SOCKET_FD LOCK``."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the supervisor ignores it; it is how to take over
    # The only one of its generation: one that outlived its supervisor leaves. Held until this process ends.
    seize_lock(open_lock(Path(sys.argv[2])))
    fuse.arm("recorder")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    supervisor = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(supervisor.fileno(), False)
    Recorder(supervisor).run()


if __name__ == "__main__":
    main()
