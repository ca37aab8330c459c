"""The text of /proc/PID/mountinfo: see proc_pid_mountinfo(5). Nothing here reads a file."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

# The kernel escapes only blanks, tabs, newlines and backslashes; it writes other bytes unchanged.
_ESCAPE = re.compile(r"\\([01][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system.

    ``device`` is its MAJ:MIN. ``root`` is the directory of the file system that appears at ``point``.
    ``options`` are those of the mount, ``super_options`` those of the file system (cgroup v1: its
    controllers).
    """

    device: str
    root: str
    point: str
    options: frozenset[str]
    kind: str
    super_options: frozenset[str]

    @property
    def writable(self) -> bool:
        """Whether the mount is writable; the file system itself may still be read-only."""
        return "rw" in self.options


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts, without those hidden by a later mount at the same point.

    Skips lines of any other format.
    """
    mounts: dict[str, Mount] = {}
    # Not splitlines(): of all line separators the kernel escapes only \n in a mount point.
    for line in text.split("\n"):
        # The number of optional fields before the separator varies.
        left, separator, right = line.partition(" - ")
        fields, file_system = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(file_system) < 3:
            continue
        point = _unescape(fields[4])
        mounts.pop(point, None)
        mounts[point] = Mount(
            device=fields[2],
            root=_unescape(fields[3]),
            point=point,
            options=frozenset(fields[5].split(",")),
            kind=file_system[0],
            super_options=frozenset(file_system[2].split(",")),
        )
    return list(mounts.values())


def mount_of(path: PurePath, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that a path, given without links, is on; None if there is none."""
    above = (mount for mount in mounts if path.is_relative_to(mount.point))
    return max(above, key=lambda mount: len(mount.point), default=None)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
