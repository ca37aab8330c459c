"""The audit log on stdout: a pipe, a socket, a terminal or a file.

A reader that does not read must not stop the server, so no write waits. The flag for this belongs to the
open file description (open(2)), which stdout shares with other programs: pipes and terminals are opened
again, and a socket has a flag for each message. A file never waits for a reader.
"""

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .backlog import MOST_WAITING, Backlog

_STDOUT = 1


class AuditStream:
    """Writes a line for each record to an open descriptor; the descriptor itself is left as it is."""

    def __init__(self, descriptor: int = _STDOUT, *, most_waiting: int = MOST_WAITING) -> None:
        self._file = os.dup(descriptor)
        self._socket: socket.socket | None = None
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=self._file)
        elif stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
            with suppress(PermissionError):  # the terminal of another user
                opened = _open_again(descriptor)
                os.close(self._file)
                self._file = opened
        send = partial(os.write, self._file) if self._socket is None else _sender(self._socket)
        self._backlog = Backlog(self._file, send, most=most_waiting)

    def write(self, line: bytes) -> None:
        self._backlog.put(line)

    def reopen(self) -> None:
        """Stdout has no name to open again."""

    def close(self) -> None:
        self._backlog.close()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._file)


def _open_again(descriptor: int) -> int:
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(f"/proc/self/fd/{descriptor}", flags)


def _sender(connected: socket.socket) -> Callable[[bytes], int]:
    return lambda data: connected.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
