"""The recorder: moves the output of jobs from their FIFOs into segments, and their input, by splice(2).

This process may die at any moment: what is recorded is exactly what is in the file, so the next recorder
continues at the end of the file. The main thread waits for output and messages, and records small output
itself. A channel has a thread only while it has more, or while the disk is slow, so that a slow disk delays
no other channel.
"""

import os
import select
import socket
import threading
from collections.abc import Callable
from functools import partial

from ...core.model.channel import Channel
from ...core.steps import Step, reached
from ..ipc.framing import Decoder, Message, encode
from ..ipc.unix_sockets import receive
from ..kernel.slow_disk import SlowDisk
from ..logs.lines import log_steps
from ..state.reserve import Reserve
from .channel_recording import RETRY_INTERVAL, ChannelRecording
from .input_feed import InputFeed, TerminalFeed
from .job_recording import JobRecording, sinks_of
from .output_bound import OutputBound
from .terminal_relay import TerminalRelay


class Recorder:
    """All channels being recorded, and the connection to the supervisor."""

    def __init__(self, supervisor: socket.socket, offsets: "memoryview[int]") -> None:
        self.offsets = offsets
        self._supervisor = supervisor
        self._epoll = select.epoll()
        self._jobs: dict[str, JobRecording] = {}
        self._feeds: dict[str, InputFeed] = {}
        self._by_fd: dict[int, ChannelRecording | InputFeed | TerminalRelay] = {}
        self._sending = threading.Lock()
        self._decoder = Decoder()
        self._retries: list[Callable[[], None]] = []
        self._reserves: dict[str, Reserve] = {}
        self.disk = SlowDisk()
        self.bound = OutputBound()

    def run(self) -> None:
        """Record until the supervisor has disconnected and nothing is left to record."""
        control = self._supervisor.fileno()
        self._epoll.register(control, select.EPOLLIN)
        while self._supervisor.fileno() >= 0 or self._jobs or self._feeds:
            for fd, _ in self._epoll.poll(RETRY_INTERVAL if self._retries else None):
                if fd == control and self._supervisor.fileno() >= 0:
                    self._receive()
                elif fd in self._by_fd:
                    self._by_fd[fd].wake()
            retries, self._retries = self._retries, []
            for retry in retries:
                retry()

    # --- for the recordings

    def wait_for_output(self, channel: ChannelRecording) -> None:
        """Wake a channel once when it has output."""
        self._epoll.modify(channel.fifo, select.EPOLLIN | select.EPOLLONESHOT)

    def wait_for_room(self, feed: InputFeed, *, waiting: bool) -> None:
        """Wake a feed when its FIFO has room, if it is ``waiting`` for that, or no reader any more."""
        self._epoll.modify(feed.fifo, select.EPOLLOUT if waiting else 0)

    def begin_relay(self, relay: TerminalRelay) -> None:
        """Wake a relay when its terminal has output."""
        for fd, events in ((relay.master, select.EPOLLIN), (relay.fifo, 0)):
            self._by_fd[fd] = relay
            self._epoll.register(fd, events)

    def wait_for_terminal(self, relay: TerminalRelay, *, room: bool) -> None:
        """Wake a relay when its FIFO has ``room``, or else when its terminal has output."""
        self._epoll.modify(relay.master, 0 if room else select.EPOLLIN)
        self._epoll.modify(relay.fifo, select.EPOLLOUT if room else 0)

    def fed(self, job: str, *, done: bool = False, closed: bool = False, lacking: bool = False) -> None:
        """Report that input was moved, or that none can be: see the protocol."""
        if done:
            self._feeds.pop(job, None)
        self._send({"fed": job, "done": done, "closed": closed, "lacking": lacking})

    def lacks_terminal(self, job: str) -> None:
        """Report that the master of a job's terminal has not arrived."""
        self._send({"lacks_terminal": job})

    def reserve_of(self, directory: str) -> Reserve:
        """Return the reserve of the state directory with this directory of a job."""
        state = os.path.dirname(os.path.dirname(directory))
        return self._reserves.setdefault(state, Reserve(state))

    def drained(self, job: str, sizes: dict[Channel, int], missing: dict[Channel, int]) -> None:
        """Report that all output of a job is recorded, but for these bytes at its end."""
        self._jobs.pop(job, None)
        lost = {"missing": dict(missing)} if missing else {}
        self._send({"drained": job, "output": dict(sizes), **lost})
        reached(Step.DRAIN_REPORTED, job)

    def trouble(self, job: str, reason: str) -> None:
        """Report why output cannot be recorded; an empty reason: it can be again."""
        self._send({"trouble": job, "reason": reason})

    def retry_later(self, step: Callable[[], None]) -> None:
        """Call ``step`` again later: it lacked a resource."""
        self._retries.append(step)

    def forget(self, *descriptors: int) -> None:
        """Stop waiting for descriptors. Call this before they are closed."""
        for fd in descriptors:
            if self._by_fd.pop(fd, None):
                self._epoll.unregister(fd)

    # --- messages

    def _send(self, message: Message) -> None:
        try:
            with self._sending:
                self._supervisor.sendall(encode(message))
        except OSError:
            pass  # the supervisor has died; the next one requests it again

    def _receive(self) -> None:
        try:
            # ``record`` carries descriptors of the FIFOs: held until the FIFOs are opened here. ``feed``
            # carries those that it needs.
            data, held = receive(self._supervisor)
        except ConnectionError:  # the supervisor died with unread messages of ours
            data, held = b"", []
        if not data:
            self._epoll.unregister(self._supervisor.fileno())
            self._supervisor.close()
        for message in self._decoder.feed(data):
            self._serve(message, held)
        for fd in held:
            os.close(fd)

    def _serve(self, message: Message, held: list[int]) -> None:
        match message:
            case {"record": str(job)} if sinks := sinks_of(message):
                self._record(JobRecording(self, job, sinks, terminal=message.get("terminal") is True))
            case {"bound": (int() | None) as most}:
                self.bound.most = most
            case {"log": str(level), "format": str(form)}:
                log_steps("recorder", level, form)
            case {"feed": str(job), "spool": int(spool), "fifo": int(fifo), "end": (int() | None) as end}:
                if feed := self._feed(job, _take(held, spool, fifo)):
                    feed.end = end
                    feed.wake()
            case {"stop_feeding": str(job)} if job in self._feeds:
                self._feeds.pop(job).close()
            case {"relay": str(job)} if job in self._jobs:
                self._relay(job, held)
            case {"finish": str(job)} if job in self._jobs:
                self._jobs[job].drain(discard=message.get("discard") is True)
            case {"drop": str(job)} if job in self._jobs:
                self._jobs.pop(job).drop()

    def _feed(self, job: str, descriptors: list[int]) -> InputFeed | None:
        """Return the feed of a job; None if its descriptors have not arrived, which is reported."""
        if job not in self._feeds:
            if not descriptors:  # they were not sent, or there were too many open files
                self.retry_later(partial(self.fed, job, lacking=True))
                return None
            kind = TerminalFeed if os.isatty(descriptors[1]) else InputFeed
            feed = self._feeds[job] = kind(self, job, *descriptors)
            self._by_fd[feed.fifo] = feed
            self._epoll.register(feed.fifo, 0)
        return self._feeds[job]

    def _relay(self, job: str, held: list[int]) -> None:
        """Record what the job writes to its terminal, whose master has arrived."""
        masters = [fd for fd in held if os.isatty(fd)]
        if masters:
            held.remove(masters[0])
            self._jobs[job].relay(masters[0])
        else:  # it was not sent, or there were too many open files
            self.retry_later(partial(self.lacks_terminal, job))

    def _record(self, recording: JobRecording) -> None:
        self._jobs[recording.job] = recording
        self._begin(recording)

    def _begin(self, recording: JobRecording) -> None:
        """Begin to record, now or as soon as descriptors and disk space are available."""
        if self._jobs.get(recording.job) is not recording:
            return  # dropped meanwhile
        try:
            recording.open()
        except OSError as error:
            recording.trouble(None, error.strerror or str(error))
            self.retry_later(partial(self._begin, recording))
            return
        for channel in recording.channels:
            self._by_fd[channel.fifo] = channel
            self._epoll.register(channel.fifo, select.EPOLLIN | select.EPOLLONESHOT)
        recording.opened()


def _take(descriptors: list[int], *inodes: int) -> list[int]:
    """Remove and return the descriptors of the files with these inode numbers; none if one is absent."""
    found = {os.fstat(each).st_ino: each for each in descriptors}
    if not found.keys() >= set(inodes):
        return []
    for inode in inodes:
        descriptors.remove(found[inode])
    return [found[inode] for inode in inodes]
