"""The supervisor's part of a job's input: the FIFO that the job reads, and the spool that the server fills.

The recorder moves bytes from the spool into the FIFO, or into the master of the job's terminal. The file
position of the spool says how far it is: recorder, supervisor and zygote have the same open file
description, so that it survives any two of them.
"""

import os
from contextlib import suppress

from ..recorder.client import RecorderClient
from ..state.job_directory import remove_input, spool_path, stdin_fifo_path
from ..zygote.client import Zygote
from .job_terminal import JobTerminal

_NONE = -1

HAS_CLOSED = "the job has closed its stdin"
TERMINAL_LOST = "the terminal was hung up: its supervisor and its zygote died together"
POSITION_LOST = "it is unknown how much of it the job has read: its supervisor and its zygote died together"


class JobInput:
    """The input of one job; of a job without input everything here does nothing.

    ``closed`` is why the job reads no more, as in InputState; ``lost`` why no more can be passed on.
    """

    def __init__(
        self, job: str, directory: str, recorder: RecorderClient, zygote: Zygote, *, wanted: bool
    ) -> None:
        self.wanted = wanted
        self.closed = ""
        self.lost = ""
        self.end_at: int | None = None
        self._job = job
        self._directory = directory
        self._recorder = recorder
        self._zygote = zygote
        self._spool = self._fifo = self._reader = _NONE
        self._position = 0

    @property
    def held(self) -> list[int]:
        """The descriptors that the zygote holds too."""
        return [self._spool, self._fifo] if self._spool != _NONE else []

    @property
    def position(self) -> int:
        """How many bytes are in the FIFO, or were read by the job."""
        return self._position if self._spool == _NONE else os.lseek(self._spool, 0, os.SEEK_CUR)

    # --- start

    def create(self, master: int) -> None:
        """Create the files, and hold them open; the master of a terminal takes the place of the FIFO.

        OSError if refused.
        """
        if not self.wanted:
            return
        with suppress(FileExistsError):  # without it, the output store keeps output elsewhere
            os.mkdir(self._directory, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._spool = os.open(spool_path(self._directory), flags, 0o600)
        if master != _NONE:
            self._fifo = os.dup(master)
            return
        fifo = stdin_fifo_path(self._directory)
        os.mkfifo(fifo)
        os.chmod(fifo, 0o644)  # the job may run as another user, and open /dev/stdin
        # Until the child has the FIFO: without a reader it could not be opened for writing.
        self._reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._fifo = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def open_end(self) -> int:
        """Open the descriptor that becomes the job's stdin. OSError if refused."""
        path = stdin_fifo_path(self._directory) if self.wanted else os.devnull
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # does not block: we hold it for writing

    def started(self) -> None:
        """Leave the FIFO's end for reading to the job: it has been cloned."""
        if self._reader != _NONE:
            os.close(self._reader)
            self._reader = _NONE

    # --- adoption

    def hold(self) -> None:
        """Hold the FIFO of a job that is adopted, before its other holders are stopped."""
        if self.wanted:
            with suppress(OSError):  # ENXIO: the job has closed its stdin
                self._fifo = os.open(
                    stdin_fifo_path(self._directory), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )

    def adopt(self, spool: int | None, end_at: int | None, terminal: JobTerminal) -> None:
        """Continue with this spool, at its position, once the FIFO or the terminal is held."""
        if not self.wanted:
            return
        if terminal.master != _NONE:
            self._fifo = os.dup(terminal.master)
        self.end_at = end_at
        if self._fifo == _NONE:
            self.closed = TERMINAL_LOST if terminal.wanted else HAS_CLOSED
        if spool is not None:
            self._spool = spool
        elif not self.closed:  # the FIFO stays open: the job must not take a part for the whole
            self.lost = POSITION_LOST
        if self.closed or (end_at is not None and self.position == end_at):
            self.close()
        elif spool is not None:
            self._zygote.hold(self.held)
            self.feed()

    # --- while the job runs

    def feed(self) -> None:
        """Have the recorder move what is in the spool by now."""
        if self._spool != _NONE:
            self._recorder.feed(self._job, self._spool, self._fifo, self.end_at)

    def fed(self, *, closed: bool, done: bool) -> None:
        """Handle that the recorder has moved bytes. ``done``: it moves no more."""
        if closed:
            self.closed = self.closed or HAS_CLOSED
        if done:
            self.close()

    def discard(self) -> None:
        """Delete the files of a job that never ran."""
        if self.wanted:
            remove_input(self._directory)

    def close(self) -> None:
        """Close everything: the job reads the end of its input. Idempotent."""
        self.started()
        if self._spool != _NONE:
            self._position = self.position
            self._recorder.stop_feeding(self._job)
            self._zygote.drop(self.held)
            os.close(self._spool)
            self._spool = _NONE
        self._close_fifo()

    def _close_fifo(self) -> None:
        if self._fifo != _NONE:
            os.close(self._fifo)
            self._fifo = _NONE
