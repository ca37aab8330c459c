"""The input of one job: splices its spool into the FIFO that the job reads.

The file position of the spool is shared with other processes and advances with each splice(2), in one step
with the bytes: the next recorder continues exactly where this one has died.
"""

import os
import select

from ...core.steps import Step, reached

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .recorder import Recorder

_SPLICE_F_NONBLOCK = 2
_AT_ONCE = 1 << 20

_TURNS = 16
"""Calls of splice(2) before other channels have their turn."""


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
                if not os.splice(self._spool, self.fifo, _AT_ONCE, flags=_SPLICE_F_NONBLOCK):
                    break
                moved = True
                reached(Step.INPUT_SPLICED, self.job)
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
        if self.end is not None and os.lseek(self._spool, 0, os.SEEK_CUR) >= self.end:
            return self._finish(closed=False)
        self._recorder.wait_for_room(self, waiting=waiting)
        if moved:
            self._recorder.fed(self.job)
        return None

    def close(self) -> None:
        """Close both files."""
        self._open = False
        self._recorder.forget(self)
        os.close(self.fifo)
        os.close(self._spool)

    def _finish(self, *, closed: bool) -> None:
        self.close()
        self._recorder.fed(self.job, done=True, closed=closed)
