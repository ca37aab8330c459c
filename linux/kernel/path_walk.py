"""Who could replace the file at a path: by the file itself, or by a directory or a link on the way.

A path is followed component by component, as the kernel does, and each is checked: as sshd requires of an
AuthorizedKeysCommand. Then the file cannot change between the check and its use.
"""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from errno import ELOOP

_MOST_LINKS = 40
"""That the kernel follows (path_resolution(7))."""

_MOST_STEPS = 4096
"""Components that are looked at. So many links can lead through 80,000, which takes a second each time."""

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Weakness:
    """A file, directory or link that another user could change.

    ``owner`` is the uid that it belongs to; None: its mode lets others write.
    """

    path: str
    owner: int | None = None


class PathWalk:
    """Follows paths; ``links`` are those on the way, ``weakness`` is the first one that was found.

    Everything must belong to one of ``owners``, and only its owner may write to it. With ``sticky``, others
    may write to a directory in which they can neither rename nor delete what is not theirs
    (restricted deletion, such as of /tmp); the owner of what is in it is checked anyway.
    """

    def __init__(self, owners: Collection[int] = (0,), *, sticky: bool = False) -> None:
        self._owners = owners
        self._sticky = sticky
        self._steps = 0
        self.links: list[str] = []
        self.weakness: Weakness | None = None

    def follow(self, path: str) -> str:
        """Return an absolute path without links; raise OSError."""
        current = "/"
        self._check(current, os.lstat(current))
        pending = path.split("/")[::-1]
        while pending:
            name = pending.pop()
            if name == "..":
                current = os.path.dirname(current)
            elif name not in {"", "."}:
                step = f"{current.rstrip('/')}/{name}"
                self._steps += 1
                if self._steps > _MOST_STEPS:
                    raise OSError(ELOOP, os.strerror(ELOOP), path)
                info = os.lstat(step)
                self._check(step, info)
                if stat.S_ISLNK(info.st_mode):
                    target = self._target(step)
                    current = "/" if target.startswith("/") else current
                    pending += target.split("/")[::-1]
                else:
                    current = step
        return current

    def _target(self, link: str) -> str:
        if len(self.links) >= _MOST_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP), link)
        self.links.append(link)
        return os.readlink(link)

    def _check(self, path: str, info: os.stat_result) -> None:
        if self.weakness is not None:
            return
        if info.st_uid not in self._owners:
            self.weakness = Weakness(path, info.st_uid)
        elif self._writable_by_others(info.st_mode):
            self.weakness = Weakness(path)

    def _writable_by_others(self, mode: int) -> bool:
        if stat.S_ISLNK(mode) or (self._sticky and stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            return False
        return bool(mode & _WRITABLE_BY_OTHERS)


def weakness_of(path: str) -> Weakness | None:
    """Return what users besides root and this process's could change to replace a file; raise OSError."""
    walk = PathWalk({0, os.geteuid()}, sticky=True)
    walk.follow(os.path.abspath(path))
    return walk.weakness
