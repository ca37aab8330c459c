"""The input of one job: splices its spool into the FIFO that the job reads.

The file position of the spool is shared with other processes and advances with each splice(2), in one step
with the bytes: the next recorder continues exactly where this one has died.
"""

import os
import select

from ...core.steps import Step, reached
from ..kernel.splice import splice

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .recorder import Recorder

_AT_ONCE = 1 << 20

_KEYS = 1024
"""Bytes typed into a terminal at once: its buffer has 4 KiB."""

_TURNS = 16
"""Moves before other channels have their turn."""


class InputFeed:
    """Moves bytes while the FIFO has room; ``end`` is the size of the whole input once it is known."""

    def __init__(self, recorder: "Recorder", job: str, spool: int, fifo: int) -> None:
        self.job = job
        self.fifo = fifo
        self.end: int | None = None
        self._recorder = recorder
        self._spool = spool
        self._open = True
        self._state = select.poll()
        self._state.register(fifo, 0)  # POLLERR: no process has it open for reading

    def wake(self) -> None:
        """Move what fits, and report it."""
        if not self._open:  # a retry comes too late
            return None
        moved = waiting = False
        try:
            for _ in range(_TURNS):
                if not self._move():
                    break
                moved = True
            else:
                waiting = True
        except BlockingIOError:
            waiting = True
        except BrokenPipeError:
            return self._finish(closed=True)
        except OSError:  # such as EIO of a broken disk
            self._recorder.retry_later(self.wake)
        if not waiting and self._state.poll(0):
            return self._finish(closed=True)
        if self.end is not None and self._position >= self.end:
            return self._finish(closed=False)
        self._recorder.wait_for_room(self, waiting=waiting)
        if moved:
            self._recorder.fed(self.job)
        return None

    def _move(self) -> int:
        """Move some bytes; return how many. BlockingIOError if there is no room."""
        moved = splice(self._spool, self.fifo, _AT_ONCE)
        if moved:
            reached(Step.INPUT_SPLICED, self.job)
        return moved

    def close(self) -> None:
        """Close both files."""
        self._open = False
        self._recorder.forget(self.fifo)
        os.close(self.fifo)
        os.close(self._spool)

    @property
    def _position(self) -> int:
        return os.lseek(self._spool, 0, os.SEEK_CUR)

    def _finish(self, *, closed: bool) -> None:
        self.close()
        self._recorder.fed(self.job, done=True, closed=closed)


class TerminalFeed(InputFeed):
    """Types the input into a terminal: ``fifo`` is its master.

    The position is moved before the bytes: a key that was typed is never typed again. If this process dies
    in between, the job does not get it.
    """

    def _move(self) -> int:
        before = self._position
        keys = os.pread(self._spool, _KEYS, before)
        if not keys:
            return 0
        os.lseek(self._spool, before + len(keys), os.SEEK_SET)
        reached(Step.TYPING, self.job)
        typed = 0
        try:
            typed = os.write(self.fifo, keys)
        finally:
            os.lseek(self._spool, before + typed, os.SEEK_SET)
        return typed
