"""The terminal of one job: moves what the job writes from the master into the job's FIFO.

By splice(2): bytes are in the terminal or in the FIFO, also if this process dies. splice(2) from a terminal
to a file fails with EINVAL. Where it is refused for terminals (Linux 5.10), bytes are read and written; the
last of them, at most 4 KiB, are lost if this process dies in between.
"""

import errno
import os
import select

from ...core.steps import Step, reached
from ..kernel.splice import splice

TYPE_CHECKING = False  # type checkers take it as true; typing itself costs the recorder half a megabyte
if TYPE_CHECKING:
    from .job_recording import JobRecording
    from .recorder import Recorder

_AT_ONCE = 65536

_TURNS = 16
"""Moves before other channels have their turn."""


class TerminalRelay:
    """Moves bytes while the FIFO has room; both descriptors are its own."""

    def __init__(self, recorder: "Recorder", job: "JobRecording", master: int, fifo: int) -> None:
        self.master = master
        self.fifo = os.dup(fifo)  # the other one is waited for by the channel
        self._recorder = recorder
        self._job = job
        self._room = select.poll()
        self._room.register(fifo, select.POLLOUT)
        self._splices = True

    def wake(self) -> None:
        """Move what fits; report to the job when there is no more."""
        try:
            for _ in range(_TURNS):
                self._move()
        except BlockingIOError:
            if self._room.poll(0):
                self._recorder.wait_for_terminal(self, room=False)
                self._job.relayed()
            else:
                self._recorder.wait_for_terminal(self, room=True)
        except OSError:  # EIO: no process has the terminal open, not even the supervisor
            self._job.relayed()
        else:
            self._recorder.wait_for_terminal(self, room=False)

    def _move(self) -> None:
        if self._splices:
            try:
                splice(self.master, self.fifo, _AT_ONCE)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._splices = False
            reached(Step.RELAYED, self._job.job)
        elif self._room.poll(0):  # then it takes PIPE_BUF bytes at once (pipe(7))
            os.write(self.fifo, os.read(self.master, select.PIPE_BUF))
        else:
            raise BlockingIOError

    def close(self) -> None:
        """Close both."""
        self._recorder.forget(self.master, self.fifo)
        os.close(self.master)
        os.close(self.fifo)
