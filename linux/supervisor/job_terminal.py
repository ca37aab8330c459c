"""The terminal of a job: a pseudo-terminal, whose master is read and written by the recorder.

Supervisor, recorder and zygote hold the master: the kernel hangs the terminal up when the last one closes
it. The supervisor also holds the slave: the master then never reports that no process has it open, which
can be so for a moment while the job runs.
"""

import fcntl
import os
import termios
from contextlib import suppress

from ...core.model.terminal import WindowSize
from ..ipc.encoding import SpawnPlan
from ..zygote.client import Zygote

_NONE = -1
_IUTF8 = 0o40000  # termios(3): an erased character may have several bytes; Python has no name for it
_TIOCGPTPEER = 0x5441  # Linux 4.13, on x86 and ARM


class NoTerminal(OSError):
    """No pseudo-terminal can be opened."""


class JobTerminal:
    """The terminal of one job; of a job without one everything here does nothing."""

    def __init__(self, plan: SpawnPlan, zygote: Zygote) -> None:
        self._size = plan.spec.terminal
        self._owner = os.geteuid() if plan.uid is None else plan.uid
        self._zygote = zygote
        self.master = self.slave = _NONE

    @property
    def wanted(self) -> bool:
        """Whether the job has one."""
        return self._size is not None

    @property
    def held(self) -> list[int]:
        """The descriptor that the zygote holds too."""
        return [self.master] if self.master != _NONE else []

    @property
    def number(self) -> int | None:
        """The number of the terminal, as in /dev/pts/N."""
        return int(os.ttyname(self.slave).rpartition("/")[2]) if self.slave != _NONE else None

    def create(self) -> None:
        """Open a terminal of the wanted size for the job's user. NoTerminal and OSError if refused."""
        if self._size is None:
            return
        try:
            self.master, self.slave = os.openpty()
        except OSError as error:
            raise NoTerminal(error.errno, error.strerror) from error
        mode = termios.tcgetattr(self.slave)
        mode[0] |= _IUTF8
        termios.tcsetattr(self.slave, termios.TCSANOW, mode)
        os.set_blocking(self.master, False)
        os.fchown(self.slave, self._owner, -1)  # the group is that of the mount of devpts: tty
        os.fchmod(self.slave, 0o620)
        termios.tcsetwinsize(self.slave, (self._size.rows, self._size.columns))

    def adopt(self, master: int | None) -> None:
        """Continue with the master of a dead supervisor; None: it is lost, and the kernel has hung up."""
        if self._size is None or master is None:
            return
        self.master = master
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        with suppress(OSError):  # EBUSY: the job has set TIOCEXCL, and so has the terminal open
            self.slave = fcntl.ioctl(master, _TIOCGPTPEER, flags)
        self._zygote.hold(self.held)

    def resize(self, size: WindowSize) -> None:
        """Change the size; nothing is to be done if the terminal was hung up."""
        if self.master != _NONE:
            termios.tcsetwinsize(self.master, (size.rows, size.columns))

    def close(self) -> None:
        """Close everything. Idempotent."""
        if self.master != _NONE:
            self._zygote.drop(self.held)
            os.close(self.master)
            if self.slave != _NONE:
                os.close(self.slave)
            self.master = self.slave = _NONE
