"""The stdin of a command: read without blocking the event loop, or only looked at."""

import asyncio
import fcntl
import os
import select
import stat
import sys
import termios
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from .console import Failure, note

_STDIN = 0
_PIECE = 64 << 10


class StandardInput:
    """Reads stdin in a thread, because a read may last for hours.

    The descriptor stays in blocking mode, because the shell and other commands share it. The thread does
    not keep the process alive: a command can end while a read is waiting. Nothing is read before it is
    wanted. Raises Failure if stdin cannot be read, as one that is open only for writing.
    """

    def __init__(self) -> None:
        try:
            os.read(_STDIN, 0)
        except OSError as error:
            raise Failure(f"cannot read stdin: {error.strerror or error}") from None
        self._wanted: SimpleQueue[asyncio.Future[bytes]] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="stdin", daemon=True)

    async def read(self) -> bytes:
        """Return the next bytes, none at the end; raise OSError."""
        if not self._thread.is_alive():
            self._thread.start()
        data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._wanted.put(data)
        return await data

    def _serve(self) -> None:
        while True:
            wanted = self._wanted.get()
            result: bytes | OSError
            try:
                result = _read()
            except OSError as error:
                result = error
            with suppress(RuntimeError):  # the loop is closed: the command ends
                wanted.get_loop().call_soon_threadsafe(_answer, wanted, result)


def has_end() -> bool:
    """Whether a user has passed stdin, as a pipe, a file or a device: neither a terminal nor /dev/null."""
    return not os.isatty(_STDIN) and not os.path.samestat(os.fstat(_STDIN), os.stat(os.devnull))


def hint_unused(remedy: str = "use -i to pass it, or < /dev/null") -> None:
    """Print a line on stderr if input is waiting that will not be passed on."""
    with suppress(OSError):
        if _input_waits():
            note(f"stdin is not passed to the job; {remedy}")


def _input_waits() -> bool:
    """Whether a pipe or socket has data, or stdin is a file whose first byte is not read yet.

    A loop of a shell such as `while read` has begun to read the file that its commands share as stdin.
    """
    status = os.fstat(_STDIN)
    if stat.S_ISREG(status.st_mode):
        return status.st_size > os.lseek(_STDIN, 0, os.SEEK_CUR) == 0
    if not (stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)):
        return False
    size = fcntl.ioctl(_STDIN, termios.FIONREAD, bytes(4))
    return int.from_bytes(size, sys.byteorder) > 0


def _read() -> bytes:
    while True:
        try:
            return os.read(_STDIN, _PIECE)
        except BlockingIOError:  # another process has set O_NONBLOCK
            select.select([_STDIN], [], [])


def _answer(wanted: "asyncio.Future[bytes]", result: bytes | OSError) -> None:
    if wanted.done():  # it was cancelled
        return
    if isinstance(result, OSError):
        wanted.set_exception(result)
    else:
        wanted.set_result(result)
