"""One inotify instance for the whole process: there are only 128 per user (inotify(7))."""

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_CREATE = 0x100
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """A Watch that is woken by whatever is written below a directory."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake whoever waits, now or next."""
        self._changed.set()

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Inotify:
    """Watches of directories, shared by all who follow the same one; none while nobody does."""

    def __init__(self) -> None:
        self._fd = -1
        self._watches: dict[int, set[DirectoryWatch]] = {}

    @asynccontextmanager
    async def watch(self, directory: Path) -> AsyncIterator[DirectoryWatch]:
        """Watch a directory. Without inotify, or a directory, the watch never wakes: look yourself."""
        watch = DirectoryWatch()
        descriptor = self._add(directory)
        if descriptor >= 0:
            self._watches.setdefault(descriptor, set()).add(watch)
        try:
            yield watch
        finally:
            if descriptor >= 0:
                self._remove(descriptor, watch)

    def close(self) -> None:
        """Give the instance back."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._watches.clear()

    def _add(self, directory: Path) -> int:
        if self._fd < 0:
            self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        mask = _IN_MODIFY | _IN_CREATE | _IN_CLOSE_WRITE
        # The same directory gives the same descriptor, however many follow it.
        return int(_libc.inotify_add_watch(self._fd, bytes(directory), mask))

    def _remove(self, descriptor: int, watch: DirectoryWatch) -> None:
        watches = self._watches.get(descriptor)
        if watches is None:
            return
        watches.discard(watch)
        if not watches:
            del self._watches[descriptor]
            _libc.inotify_rm_watch(self._fd, descriptor)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        position = 0
        while position < len(data):
            descriptor, _, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            for watch in self._watches.get(descriptor, ()):
                watch.notify()
