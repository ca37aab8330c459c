"""One inotify instance for the whole process: there are only 128 per user (inotify(7))."""

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_ATTRIB = 0x4  # the recorder sets times where splice(2) causes no event: older kernels
_IN_CREATE = 0x100
_CHANGES = _IN_MODIFY | _IN_ATTRIB | _IN_CREATE | _IN_CLOSE_WRITE
_IN_IGNORED = 0x8000
_OVERFLOW = -1
_POLL_INTERVAL = 1.0
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """A Watch that is notified of every change in a directory."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiting task, or the next one that waits."""
        self._changed.set()

    async def changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()


class Inotify:
    """Watches of directories: one for all followers of a directory, none without followers.

    A directory is polled instead if it cannot be watched (no instances or watches are left), or if it
    was deleted: a new directory of the same name is not the watched one. Changes of files whose names begin
    with ``ignored`` do not count.
    """

    def __init__(self, ignored: str) -> None:
        self._ignored = os.fsencode(ignored)
        self._fd = -1
        self._watches: dict[int, set[DirectoryWatch]] = {}
        self._directories: dict[int, str] = {}
        self._polled: dict[str, set[DirectoryWatch]] = {}
        self._poller: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, directory: str) -> AsyncIterator[DirectoryWatch]:
        """Watch a directory, which need not exist."""
        watch = DirectoryWatch()
        descriptor = self._add(directory)
        if descriptor >= 0:
            self._watches.setdefault(descriptor, set()).add(watch)
            self._directories[descriptor] = directory
        else:
            self._poll(directory, watch)
        try:
            yield watch
        finally:
            if watch in self._watches.get(descriptor, ()):
                self._remove(descriptor, watch)
            else:
                self._stop_polling(directory, watch)

    def close(self) -> None:
        """Close the inotify instance."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._watches.clear()
            self._directories.clear()
        if self._poller is not None:
            self._poller.cancel()

    def _add(self, directory: str) -> int:
        if self._fd < 0:
            self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        # The kernel returns the same descriptor for every watch of a directory.
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
        changed, removed = set(), set()
        while position < len(data):
            descriptor, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            if not data.startswith(self._ignored, position, position + length):
                changed.add(descriptor)
            position += length
            if mask & _IN_IGNORED:
                removed.add(descriptor)
        if _OVERFLOW in changed:  # events were lost
            changed.update(self._watches)
        for descriptor in changed:
            for watch in self._watches.get(descriptor, ()):
                watch.notify()
        for descriptor in removed & self._watches.keys():  # the others were removed by us
            directory = self._directories.pop(descriptor)
            for watch in self._watches.pop(descriptor):
                self._poll(directory, watch)

    def _poll(self, directory: str, watch: DirectoryWatch) -> None:
        self._polled.setdefault(directory, set()).add(watch)
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll_all())

    def _stop_polling(self, directory: str, watch: DirectoryWatch) -> None:
        watches = self._polled.get(directory, set())
        watches.discard(watch)
        if not watches:
            self._polled.pop(directory, None)

    async def _poll_all(self) -> None:
        """Notify the followers of every polled directory that has changed."""
        seen: dict[str, object] = {}
        while self._polled:
            await asyncio.sleep(_POLL_INTERVAL)
            seen = {
                directory: self._poll_once(directory, seen.get(directory)) for directory in self._polled
            }
        self._poller = None

    def _poll_once(self, directory: str, seen: object) -> object:
        try:
            sizes = _sizes(directory)
        except OSError:  # EMFILE, which may be why it is polled: try again at the next poll
            return seen
        if sizes != seen:
            for watch in self._polled[directory]:
                watch.notify()
        return sizes


def _sizes(directory: str) -> object:
    try:
        return {entry.name: entry.stat().st_size for entry in os.scandir(directory)}
    except FileNotFoundError:
        return None
