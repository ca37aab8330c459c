"""The recording of one channel: splices its FIFO into its segments.

The main thread does it while there is little output, otherwise a thread of the channel's own.
"""

import os
import re
import select
import threading
import time
from contextlib import suppress
from errno import ENOSPC

from ...core.model.channel import Channel
from ...core.steps import Step, reached
from ..kernel.splice import splice
from ..state.reserve import FOR_OUTPUT, NO_SPACE, Reserve
from .output_bound import CountedOutput
from .segments import Segments
from .time_index import TimeIndex

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .job_recording import JobRecording
    from .recorder import Recorder

_AT_ONCE = 1 << 20

_LITTLE = 65536
"""Bytes that the main thread moves at once: the default size of a pipe (pipe(7))."""

_FEW = 8
"""Moves by the main thread, each within ``_LINGER`` of the one before: then a thread is started."""

_LINGER = 20
"""Milliseconds that a thread waits for more output before it ends; starting another takes 0.1 ms."""

_GATHER = 0.002
"""Seconds during which frequent small writes are gathered; a single write is moved at once."""

_FLOOD = 8 << 20
"""Bytes per second above which writes are not gathered: a pipe of 64 KiB would fill and block the job."""

_LINUX = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
_SPLICE_NOTIFIES = _LINUX >= (6, 8)
"""Whether inotify(7) reports all writes of splice(2); before 6.8 that depended on the file system."""

RETRY_INTERVAL = 0.2
"""Seconds until a refused operation is retried; meanwhile the job blocks on its full pipe."""

_ATTEMPTS = 5
"""To record the rest of the output of a job that is stopped, before it is discarded."""


class ChannelRecording:
    """One FIFO and its segments; ``index`` is that of the channel in the shared offsets.

    ``times`` is None for a sink whose times are not kept.
    """

    def __init__(
        self,
        recorder: "Recorder",
        job: "JobRecording",
        name: Channel,
        index: int,
        fifo: int,
        segments: Segments,
        times: TimeIndex | None,
        reserve: Reserve,
    ) -> None:
        self.name = name
        self._index = index
        self.fifo = fifo
        self._recorder = recorder
        self._job = job
        self._segments = segments
        self._times = times
        self._reserve = reserve
        self._counted = CountedOutput(recorder.bound)
        self._counted.keeps(segments.end - segments.first)
        self._lock = threading.Lock()
        self._draining = False
        self._pumping = False
        self._wake_fd = -1  # an eventfd(2), while the thread may be waiting for more output
        self._refusals = 0  # in a row
        self._job_ended = False
        self._may_discard = False
        self.missing: int | None = None
        """Bytes of the end of the output that were discarded; None: none, and none will be."""
        self._moves = 0
        self._moved_at = 0.0
        self._readable = select.poll()
        self._readable.register(fifo, select.POLLIN)

    def wake(self) -> None:
        """Record what is in the FIFO: now if it is little, otherwise in a thread, unless one runs."""
        with self._lock:
            if self._pumping:
                return
            self._pumping = True
        if self._note_wake() and self._move_little():
            return
        try:
            threading.Thread(target=self._pump, daemon=True).start()
        except RuntimeError:  # the system's limit of threads is reached
            self._pumping = False
            self._recorder.retry_later(self.wake)

    def _note_wake(self) -> bool:
        """Note that there is output; return whether the main thread may move it, besides its other work."""
        before, self._moved_at = self._moved_at, time.monotonic()
        if self._moved_at - before > _LINGER / 1000:
            self._moves = 0
        self._moves += 1
        return self._moves <= _FEW and not self._recorder.disk.is_slow and self.missing is None

    def _move_little(self) -> bool:
        """Record what is in the FIFO; return False if a thread is needed: there is more, or an error."""
        if self._readable.poll(0):
            if not self._segments.fits(_LITTLE):  # the next one is begun, and the oldest deleted
                return False
            self._recorder.disk.begin()
            try:
                self._splice(_LITTLE)
            except OSError:
                return False
            finally:
                self._recorder.disk.end()
        if not self._draining:
            self._pumping = False
            self._recorder.wait_for_output(self)
        elif self._readable.poll(0):
            return False
        else:
            self._complete()
        return True

    def job_ended(self, *, discard: bool) -> None:
        """Wait for no other output any more: no process writes, and what is left in the pipe is little.

        ``discard``: discard what cannot be recorded, since the job is to be stopped in any case.
        """
        self._job_ended = True
        self._may_discard = discard

    def drain(self) -> None:
        """Record the rest, then complete."""
        with self._lock:
            self._draining = True
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)
        self.wake()

    def close(self) -> None:
        """Close FIFO and segment."""
        self._recorder.forget(self.fifo)
        self._counted.keeps(0)
        os.close(self.fifo)
        self._segments.close()

    def _pump(self) -> None:
        more = select.poll()
        more.register(self.fifo, select.POLLIN)
        try:
            self._wake_fd = wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            more.register(wake_fd, select.POLLIN)
        except OSError:  # no descriptor left: drain() waits until _LINGER has passed
            wake_fd = -1
        complete = self._pump_until_silent(more)
        if wake_fd >= 0:
            os.close(wake_fd)
        if complete:
            self._complete()

    def _complete(self) -> None:
        """Close, and report the size."""
        with suppress(OSError):  # a full disk: readers get the error that no output is kept
            self._segments.replace_deleted()
        size = self._segments.end
        self.close()
        self._job.complete(self, size, self.missing or 0)

    def _pump_until_silent(self, more: select.poll) -> bool:
        """Record until there is no output for a while; return whether the channel is complete."""
        rate, moved_at = 0.0, time.monotonic()
        while True:
            moved, before, moved_at = self._move_all(), moved_at, time.monotonic()
            # Falls slowly: a pause does not end a flood.
            rate = max(rate / 2, moved / max(moved_at - before, 1e-6))
            if not self._draining and more.poll(_LINGER):
                often = self._job.gathers and rate < _FLOOD and time.monotonic() - moved_at < _GATHER
                if often and self._readable.poll(0):
                    time.sleep(_GATHER)
                continue
            with self._lock:
                if not self._draining:
                    self._recorder.wait_for_output(self)
                elif self._readable.poll(0):
                    continue
                self._wake_fd = -1
                self._pumping = self._draining
                return self._draining

    def _move_all(self) -> int:
        """Splice until the FIFO is empty; return the number of bytes."""
        moved = 0
        # Poll first: without output no segment is begun, and none deleted for it.
        while self._readable.poll(0):
            try:
                if self.missing is not None:
                    self.missing += len(os.read(self.fifo, _LITTLE))
                else:
                    moved += self._splice(_AT_ONCE)
            except BlockingIOError:  # another process has read it
                break
            except OSError as error:  # most likely a full disk; the bytes stay in the pipe
                self._refused(error)
            else:
                if self._refusals:
                    self._refusals = 0
                    self._job.trouble(self.name, "")
        return moved

    def _refused(self, error: OSError) -> None:
        """Wait before the next attempt, unless the reserve has space for the last output."""
        if error.errno in NO_SPACE:
            if self._job_ended and self._reserve.release(FOR_OUTPUT):
                return
            self._reserve.wanted = True
        self._refusals += 1
        if self._may_discard and self._refusals > _ATTEMPTS:
            self.missing = 0
            return
        self._job.trouble(self.name, error.strerror or str(error))
        time.sleep(RETRY_INTERVAL)

    def _splice(self, most: int) -> int:
        """Move at most this many bytes from the FIFO; return how many."""
        if not self._job_ended:
            self._recorder.bound.check()
            if self._reserve.wanted and not self._reserve.allows_output():
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        size, room = self._segments.room()
        if self._times is not None:
            self._times.note(self._segments.base + size)
        spliced = splice(self.fifo, self._segments.file, min(most, room), position=size)
        end = self._segments.base + size + spliced
        self._recorder.offsets[self._index] = end
        self._counted.keeps(end - self._segments.first)
        reached(Step.SPLICED, self._job.job)
        if not _SPLICE_NOTIFIES:
            os.utime(self._segments.file)
        return spliced
