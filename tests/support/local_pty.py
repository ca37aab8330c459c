"""A terminal of a user, with one command in it."""

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO

from .installation import Installation
from .waiting import PATIENCE

ROWS, COLUMNS = 31, 97


class LocalPty:
    """A terminal whose keys and screen are those of the test, with a command that it controls."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stdout: IO[bytes] | None = None,
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(ROWS, COLUMNS)
        self._mode_before = termios.tcgetattr(self._slave)
        self.shown = b""
        """Everything that the terminal has shown."""
        self._seen = 0
        # setsid(1) makes the terminal the controlling one: only then it sends SIGWINCH, SIGINT and SIGHUP.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            env=env,
            stdin=self._slave,
            stdout=self._slave if stdout is None else stdout,
            stderr=self._slave,
        )

    @property
    def restored(self) -> bool:
        """Whether the mode is that before the command."""
        return self._mode_before == termios.tcgetattr(self._slave)

    @property
    def is_raw(self) -> bool:
        """Whether keys are passed on at once and unchanged."""
        return not termios.tcgetattr(self._slave)[3] & (termios.ICANON | termios.ISIG | termios.ECHO)

    def type(self, keys: bytes) -> None:
        """Type these keys."""
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the command gets SIGWINCH."""
        termios.tcsetwinsize(self._master, (rows, columns))

    def see(self, text: bytes) -> bytes:
        """Wait until a text is shown after what was seen before; return what was shown up to its end."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.shown.find(text, self._seen)) < 0:
            assert self._read(deadline - time.monotonic()), (text, self.shown[self._seen :])
        before, self._seen = self._seen, found + len(text)
        return self.shown[before : self._seen]

    def wait(self) -> int:
        """Wait until the command has ended, reading what it shows; return its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._read(0.02)
            assert time.monotonic() < deadline, ("the command does not end", self.shown[-1000:])
        while self._read(0):
            pass
        return self.process.returncode

    def leave_raw(self) -> None:
        """Set the mode before, as a shell does when the command is stopped."""
        termios.tcsetattr(self._slave, termios.TCSADRAIN, self._mode_before)

    def hang_up(self) -> None:
        """Close the terminal, as a terminal emulator does."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def close(self) -> None:
        """Kill the command if it has not ended."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        if self._master >= 0:
            self.hang_up()

    def poll(self) -> None:
        """Read what is shown now, for a test that waits for something else."""
        self._read(0.02)

    def _read(self, timeout: float) -> bool:
        """Read what is shown next; return whether there was something in time."""
        if not select.select([self._master], [], [], max(timeout, 0))[0]:
            return False
        self.shown += os.read(self._master, 65536)
        return True


@contextmanager
def in_terminal(
    command: Sequence[str], env: Mapping[str, str], stdout: IO[bytes] | None = None
) -> Iterator[LocalPty]:
    """Run a command in a terminal; kill it at the end if it has not ended."""
    local = LocalPty(command, env, stdout)
    try:
        yield local
    finally:
        local.close()


def on_terminal(
    installation: Installation, *arguments: str, stdout: IO[bytes] | None = None, **env: str
) -> AbstractContextManager[LocalPty]:
    """Run a `worker` command in a terminal; kill it at the end if it has not ended."""
    environment = {**installation.env, "TERM": "xterm-256color", **env}
    return in_terminal([*installation.command, *arguments], environment, stdout)
