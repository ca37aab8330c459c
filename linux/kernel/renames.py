"""Notification of files that are renamed to a name in a directory (inotify(7)).

Only renames: a file that is written in place may be read when half of it is there.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

_IN_MOVED_TO = 0x80
_IN_ONLYDIR = 0x01000000
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class RenameWatch:
    """Calls ``renamed`` in the running event loop, each time that a file gets the name of ``path``."""

    def __init__(self, path: str, renamed: Callable[[], object]) -> None:
        """Begin to watch; raise OSError if the directory cannot be watched."""
        directory, name = os.path.split(path)
        self._name = os.fsencode(name)
        self._renamed = renamed
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            _checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MOVED_TO | _IN_ONLYDIR))
        except OSError:
            os.close(self._fd)
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        """End the watch."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        position, found = 0, False
        while position < len(data):
            *_, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            found |= data[position : position + length].rstrip(b"\0") == self._name
            position += length
        if found:
            self._renamed()


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
