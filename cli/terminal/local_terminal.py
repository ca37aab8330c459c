"""The terminal that this command runs in: in raw mode while its keys belong to a job.

In raw mode each key is a byte, also Ctrl-C, and output is written as it is. Whatever ends the command
restores the mode before; only after SIGKILL it remains.
"""

import errno
import os
import signal
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self, TypeVar

from ...core.model.terminal import WindowSize

_Result = TypeVar("_Result")

_Mode = list[int | list[bytes | int]]  # as of tcgetattr(3)

_STDIN = 0
_FATAL = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


def local_size() -> WindowSize:
    """Return the size of the terminal that is stdin, stdout or stderr; unknown if there is none."""
    for descriptor in range(3):
        with suppress(termios.error):
            return WindowSize(*termios.tcgetwinsize(descriptor))
    return WindowSize()


class LocalTerminal:
    """Stdin, if it is a terminal; otherwise everything here does nothing.

    In its context, signals that end the command restore the mode first.
    """

    def __init__(self) -> None:
        self.present = os.isatty(_STDIN)
        self._before: _Mode | None = None
        self._handled: list[signal.Signals] = []

    def __enter__(self) -> Self:
        if self.present:
            self._handled = [each for each in _FATAL if signal.getsignal(each) is signal.SIG_DFL]
            for number in self._handled:
                signal.signal(number, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
        for number in self._handled:
            signal.signal(number, signal.SIG_DFL)

    def make_raw(self) -> None:
        """Enter raw mode; in the background, the kernel stops this process before, until `fg`. OSError."""
        if not self.present:
            return
        # The kernel stops us here; only after that the mode is not that of the shell.
        _uninterrupted(lambda: termios.tcdrain(_STDIN))
        self._before = _uninterrupted(lambda: termios.tcgetattr(_STDIN))
        self._set_raw()

    def resume(self) -> None:
        """Enter raw mode again, if it was entered before: the shell has replaced it at a stop."""
        if self._before is not None and _in_foreground():
            with suppress(OSError):
                self._set_raw()

    def restore(self) -> None:
        """Leave raw mode. Idempotent. In the background, the mode is that of another program."""
        before, self._before = self._before, None
        if before is not None and _in_foreground():
            with suppress(OSError):  # it was hung up
                _uninterrupted(lambda: termios.tcsetattr(_STDIN, termios.TCSADRAIN, before))

    def _set_raw(self) -> None:
        _uninterrupted(lambda: tty.setraw(_STDIN, termios.TCSADRAIN))

    def _end(self, number: int, _frame: FrameType | None) -> None:
        """Restore the mode, and end by the signal as if it had not been handled."""
        self.restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(_STDIN) == os.getpgrp()
    except OSError:  # not our controlling terminal: there is no foreground
        return True


def _uninterrupted(call: Callable[[], _Result]) -> _Result:
    """Repeat a call of termios that a signal has interrupted, and raise its errors as OSError."""
    while True:
        try:
            return call()
        except termios.error as error:
            number, reason = error.args
            if number != errno.EINTR:
                raise OSError(number, reason) from None
