"""One inotify instance for the whole process: there are only 128 per user (inotify(7))."""

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_ATTRIB = 0x4  # how the recorder tells what splice(2) does not on older kernels
_IN_CREATE = 0x100
_CHANGES = _IN_MODIFY | _IN_ATTRIB | _IN_CREATE | _IN_CLOSE_WRITE
_IN_IGNORED = 0x8000
_OVERFLOW = -1
_BETWEEN_LOOKS = 1.0
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
    """Watches of directories, shared by all who follow the same one; none while nobody does.

    A directory that cannot be watched, for want of instances or watches, is looked at instead, and so
    is one that was deleted: the next of that name is another.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._watches: dict[int, set[DirectoryWatch]] = {}
        self._directories: dict[int, str] = {}
        self._unwatched: dict[str, set[DirectoryWatch]] = {}
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, directory: str) -> AsyncIterator[DirectoryWatch]:
        """Watch a directory, which need not exist."""
        watch = DirectoryWatch()
        descriptor = self._add(directory)
        if descriptor >= 0:
            self._watches.setdefault(descriptor, set()).add(watch)
            self._directories[descriptor] = directory
        else:
            self._look_at(directory, watch)
        try:
            yield watch
        finally:
            if watch in self._watches.get(descriptor, ()):
                self._remove(descriptor, watch)
            else:
                self._overlook(directory, watch)

    def close(self) -> None:
        """Give the instance back."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._watches.clear()
            self._directories.clear()
        if self._looking is not None:
            self._looking.cancel()

    def _add(self, directory: str) -> int:
        if self._fd < 0:
            self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        # The same directory gives the same descriptor, however many follow it.
        return int(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _CHANGES))

    def _remove(self, descriptor: int, watch: DirectoryWatch) -> None:
        watches = self._watches[descriptor]
        watches.discard(watch)
        if not watches:
            del self._watches[descriptor], self._directories[descriptor]
            _libc.inotify_rm_watch(self._fd, descriptor)

    def _read(self) -> None:
        data = os.read(self._fd, 65536)
        position = 0
        changed, gone = set(), set()
        while position < len(data):
            descriptor, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            changed.add(descriptor)
            if mask & _IN_IGNORED:
                gone.add(descriptor)
        if _OVERFLOW in changed:  # something was not told
            changed.update(self._watches)
        for descriptor in changed:
            for watch in self._watches.get(descriptor, ()):
                watch.notify()
        for descriptor in gone & self._watches.keys():  # else we have ended the watch ourselves
            directory = self._directories.pop(descriptor)
            for watch in self._watches.pop(descriptor):
                self._look_at(directory, watch)

    def _look_at(self, directory: str, watch: DirectoryWatch) -> None:
        self._unwatched.setdefault(directory, set()).add(watch)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())

    def _overlook(self, directory: str, watch: DirectoryWatch) -> None:
        watches = self._unwatched.get(directory, set())
        watches.discard(watch)
        if not watches:
            self._unwatched.pop(directory, None)

    async def _look(self) -> None:
        """Wake whoever follows an unwatched directory when it has changed."""
        seen: dict[str, object] = {}
        while self._unwatched:
            await asyncio.sleep(_BETWEEN_LOOKS)
            seen = {
                directory: self._look_once(directory, seen.get(directory)) for directory in self._unwatched
            }
        self._looking = None

    def _look_once(self, directory: str, seen: object) -> object:
        try:
            sizes = _sizes(directory)
        except OSError:  # EMFILE, which may be why it is not watched: the next look may tell
            return seen
        if sizes != seen:
            for watch in self._unwatched[directory]:
                watch.notify()
        return sizes


def _sizes(directory: str) -> object:
    try:
        return {entry.name: entry.stat().st_size for entry in os.scandir(directory)}
    except FileNotFoundError:
        return None
