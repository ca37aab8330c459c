"""The supervisor's side of the recorder: starts it, sends it the jobs, and restarts it if it dies."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ...core.model.ending import Channel
from ...core.ports import RecordedFifo
from ..ipc.connection import MessageConnection
from ..ipc.dataclass_messages import to_message
from ..ipc.event_loop import Loop, boottime
from ..ipc.framing import Message
from ..logs.lines import DEFAULT
from .protocol import MODULE
from .shared_offsets import create_shared_offsets, map_shared_offsets

log = logging.getLogger(__name__)


_RESTART_INTERVAL = 1.0
"""Seconds between two starts, if recorders die at once."""


class RecorderClient:
    """The jobs being recorded. ``on_drained`` receives the sizes once the output is complete.

    Its last argument is how many bytes of the end were discarded.

    ``on_trouble`` receives the reason why a job's output cannot be recorded, empty when it can be again.
    ``on_fed`` receives that input of a job was moved, whether the job reads no more, and whether it was
    the last.
    """

    def __init__(
        self,
        loop: Loop,
        lock: Path,
        on_drained: Callable[[str, Mapping[Channel, int], Mapping[Channel, int]], None],
        on_trouble: Callable[[str, str], None],
        on_fed: Callable[[str, bool, bool], None],
    ) -> None:
        self._loop = loop
        self._lock = lock
        self._on_drained = on_drained
        self._on_trouble = on_trouble
        self._on_fed = on_fed
        self._jobs: dict[str, Message] = {}
        self._feeds: dict[str, tuple[Message, tuple[int, int]]] = {}
        self._terminals: dict[str, int] = {}
        self._shared = create_shared_offsets()
        self._offsets = map_shared_offsets(self._shared)
        self._indexes: dict[str, list[int]] = {}
        self._free: list[int] = []
        self._most_indexes = 0
        self._draining: dict[str, Message] = {}
        self._recorder: MessageConnection | None = None
        self._log = DEFAULT
        self._bound: int | None = None
        self._begun = False
        self._started_at = 0.0
        self.start_at: float | None = None
        """When the next recorder is due: the last one died right after its start. None: not due."""

    def begin(self) -> None:
        """Start the first recorder; a recorder that dies is restarted from then on.

        The recorder stops that of a dead supervisor. Hold the FIFOs open before: bytes in a FIFO are lost
        when its last descriptor is closed.
        """
        if not self._begun:
            self.start()

    def start(self) -> None:
        """Start a recorder, and send it all jobs that are being recorded."""
        self._begun, self._started_at, self.start_at = True, boottime(), None
        ours, theirs = socket.socketpair()
        arguments = [
            sys.executable,
            "-P",
            "-m",
            MODULE,
            str(theirs.fileno()),
            str(self._lock),
            str(self._shared),
        ]
        theirs.set_inheritable(True)
        os.set_inheritable(self._shared, True)
        try:
            os.posix_spawn(sys.executable, arguments, os.environ)
        except OSError:
            log.exception("cannot start a recorder, retrying")
            ours.close()
            self.start_at = boottime() + _RESTART_INTERVAL
            return
        finally:
            theirs.close()
            os.set_inheritable(self._shared, False)
        self._recorder = MessageConnection(self._loop, ours, self._receive, self._disconnected)
        self._send_log()
        self._send_bound()
        for job, message in self._jobs.items():
            self._send(message)
            if job in self._terminals:
                self._relay(job)
            if job in self._draining:
                self._send(self._draining[job])
        for feed, descriptors in self._feeds.values():
            self._send(feed, descriptors)

    def set_log(self, level: str, form: str) -> None:
        """Set level and format of the log, for this recorder and the next ones."""
        self._log = level, form
        self._send_log()

    def bound_output(self, most: int | None) -> None:
        """Let the output of all jobs take at most this many bytes, for this recorder and the next ones."""
        self._bound = most
        self._send_bound()

    def record(
        self,
        job: str,
        sinks: Mapping[Channel, RecordedFifo],
        fifos: Collection[int],
        *,
        terminal: int | None = None,
    ) -> None:
        """Record a job's FIFOs; the message holds them open until the recorder does.

        ``terminal`` is the master of the job's terminal: what the job writes to it goes into the FIFO.
        """
        first = next(iter(sinks.values()))
        message: Message = {
            "record": job,
            "directory": first.directory,
            "channels": list(sinks),
            "segment_size": first.segment_size,
            "most_segments": first.most_segments,
            "ends": self._assign_indexes(job, len(sinks)),
            "sinks": [to_message(sink) for sink in sinks.values()],
            "terminal": terminal is not None,
        }
        self._jobs[job] = message
        self._send(message, list(fifos))
        if terminal is not None:
            self._terminals[job] = terminal
            self._relay(job)

    def feed(self, job: str, spool: int, fifo: int, end: int | None) -> None:
        """Move what is in the spool by now into the FIFO; ``end`` is the size of all input, if known."""
        if job in self._feeds:
            message, descriptors = self._feeds[job]
            message["end"] = end
            self._send(message)
            return
        message = {"feed": job, "spool": os.fstat(spool).st_ino, "fifo": os.fstat(fifo).st_ino, "end": end}
        descriptors = spool, fifo
        self._feeds[job] = message, descriptors
        self._send(message, descriptors)

    def stop_feeding(self, job: str) -> None:
        """Close spool and FIFO. Idempotent."""
        if self._feeds.pop(job, None):
            self._send({"stop_feeding": job})

    def drain(self, job: str, *, discard: bool = False) -> None:
        """Record the rest of the output: no process writes any more.

        ``discard``: discard what cannot be recorded.
        """
        self._draining[job] = {"finish": job, "discard": discard}
        self._send(self._draining[job])

    def _relay(self, job: str) -> None:
        self._send({"relay": job}, [self._terminals[job]])

    def drop(self, job: str) -> None:
        """Stop recording a job that never ran."""
        self._jobs.pop(job, None)
        self._terminals.pop(job, None)
        self._free += self._indexes.pop(job, [])
        self._send({"drop": job})

    def _assign_indexes(self, job: str, channels: int) -> list[int]:
        """Assign the channels of a job their indexes in the shared offsets."""
        indexes = self._indexes[job] = []
        for _ in range(channels):
            if not self._free:
                self._free.append(self._most_indexes)
                self._most_indexes += 1
            indexes.append(self._free.pop())
            self._offsets[indexes[-1]] = 0
        return indexes

    def close(self) -> None:
        """Disconnect from the recorder; it exits when nothing is left to record."""
        if self._recorder:
            recorder, self._recorder = self._recorder, None
            recorder.close()

    def _send_log(self) -> None:
        level, form = self._log
        self._send({"log": level, "format": form})

    def _send_bound(self) -> None:
        self._send({"bound": self._bound})

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._recorder:
            self._recorder.send(message, descriptors)

    def _disconnected(self, recorder: MessageConnection) -> None:
        if recorder is self._recorder:
            log.error("the recorder has died, starting another")
            self._recorder = None
            for job in self._jobs:
                self._on_trouble(job, "")  # the next recorder reports it again
            if boottime() < self._started_at + _RESTART_INTERVAL:
                self.start_at = boottime() + _RESTART_INTERVAL
            else:
                self.start()

    def _receive(self, recorder: MessageConnection, message: Message) -> None:
        del recorder
        match message:
            case {"drained": str(job), "output": dict(output)} if job in self._jobs:
                del self._jobs[job]
                self._terminals.pop(job, None)
                self._free += self._indexes.pop(job)
                self._draining.pop(job, None)
                missing = message.get("missing")
                self._on_drained(job, _sizes(output), _sizes(missing) if isinstance(missing, dict) else {})
            case {"lacks_terminal": str(job)} if job in self._terminals:
                self._relay(job)
            case {"fed": str(job), "lacking": True} if job in self._feeds:
                self._send(*self._feeds[job])
            case {"fed": str(job), "done": bool(done), "closed": bool(closed)} if job in self._feeds:
                if done:
                    del self._feeds[job]
                self._on_fed(job, closed, done)
            case {"trouble": str(job), "reason": str(reason)} if job in self._jobs:
                if reason:
                    log.error("job %s: output cannot be recorded: %s", job, reason)
                else:
                    log.info("job %s: output can be recorded again", job)
                self._on_trouble(job, reason)


def _sizes(message: Mapping[str, object]) -> Mapping[Channel, int]:
    return {Channel(channel): size for channel, size in message.items() if isinstance(size, int)}
