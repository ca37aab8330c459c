"""Which control group hierarchies there are, and where: mountinfo and /proc/PID/cgroup read.

The parsers are pure functions over text; see proc_pid_mountinfo(5) and cgroups(7).
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path, PurePosixPath

from ...core.errors import SpawnerUnavailable
from .. import kernel_files
from .delegation import delegated_group

LEGACY_NAMES = {"io": "blkio"}
"""Controllers that v1 calls by another name; everywhere else here they have that of v2."""

CPU_TIME = "cpuacct"
"""Counted by every group of v2 in cpu.stat, with no controller (Linux 4.15); by v1 in cpuacct."""

# The kernel escapes blanks, newlines and backslashes only; other bytes it shows as they are.
_ESCAPE = re.compile(r"\\([01][0-7]{2})")


class Version(IntEnum):
    """The generation of a hierarchy, which decides about the names and the meaning of its files."""

    V1 = 1
    V2 = 2


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One mounted cgroup file system.

    ``root`` is the group that appears at ``point``, as seen from the own cgroup namespace; "/.."
    in it means: outside of that. ``options`` are those of the file system, on v1 its controllers.
    """

    version: Version
    root: str
    point: str
    writable: bool
    options: frozenset[str]


@dataclass(frozen=True, slots=True)
class Home:
    """Where the groups of a controller can be made."""

    base: Path
    version: Version


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The bases below which groups can be made: ``legacy`` by controller of v1, and that of v2.

    A controller is either in v1 or in v2, never in both. A hybrid host has a ``unified`` base
    with few or no controllers in it. ``delegated``: that base was handed to a process to manage.
    ``top`` is where v2 is mounted.
    """

    legacy: Mapping[str, Path]
    unified: Path | None = None
    unified_controllers: frozenset[str] = frozenset()
    delegated: bool = False
    top: Path | None = None

    @property
    def has_unified_controllers(self) -> bool:
        """Whether v2 is where controllers are to be looked for: all hosts but v1 and hybrid ones."""
        return self.unified is not None and not self.legacy.keys() - {CPU_TIME}

    def home(self, controller: str) -> Home | None:
        """Return where groups with this controller are made, None if it is not there at all."""
        if self.unified is not None and controller in self.unified_controllers | {CPU_TIME}:
            return Home(self.unified, Version.V2)
        if controller in self.legacy:
            return Home(self.legacy[controller], Version.V1)
        return None


def parse_mountinfo(text: str) -> list[CgroupMount]:
    """Return the cgroup mounts in the text of /proc/self/mountinfo, without those mounted over.

    What is no line of mountinfo is skipped.
    """
    mounts: dict[str, CgroupMount] = {}
    # Not splitlines(): of all line separators the kernel escapes only \n in a mount point.
    for line in text.split("\n"):
        left, separator, right = line.partition(" - ")
        fields, file_system = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(file_system) < 3:
            continue
        point = _unescape(fields[4])
        mounts.pop(point, None)
        if file_system[0] in {"cgroup", "cgroup2"}:
            mounts[point] = CgroupMount(
                version=Version.V2 if file_system[0] == "cgroup2" else Version.V1,
                root=_unescape(fields[3]),
                point=point,
                writable="rw" in fields[5].split(","),
                options=frozenset(file_system[2].split(",")),
            )
    return list(mounts.values())


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def parse_own_groups(text: str) -> dict[str, str]:
    """Return the group per v1 controller in the text of /proc/self/cgroup; that of v2 under ""."""
    groups: dict[str, str] = {}
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            groups.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return groups


def directory_of(group: str, mount: CgroupMount) -> Path:
    """Return where a group of /proc/self/cgroup is found below a mount.

    The mount point itself, if the mount shows another part of the tree (a container without a
    cgroup namespace of its own, or one that was handed a mount of its host).
    """
    path, root = PurePosixPath(group), PurePosixPath(mount.root)
    if ".." not in path.parts and path.is_relative_to(root):
        return Path(mount.point, path.relative_to(root))
    return Path(mount.point)


def find_legacy(mounts: Iterable[CgroupMount], own_groups: Mapping[str, str]) -> dict[str, Path]:
    """Return where each v1 controller is mounted; of several mounts the first writable one."""
    legacy: dict[str, Path] = {}
    names = {legacy: name for name, legacy in LEGACY_NAMES.items()}
    for mount in _writable_first(mounts, Version.V1):
        # Other options are not controllers: rw, xattr, release_agent=..., name=systemd.
        for controller in mount.options & own_groups.keys():
            legacy.setdefault(names.get(controller, controller), Path(mount.point))
    return legacy


def find_unified(mounts: Iterable[CgroupMount], own_groups: Mapping[str, str]) -> list[tuple[Path, Path]]:
    """Return the mounts of v2, the better first: the top of each, and the own group below it."""
    return [
        (Path(mount.point), directory_of(own_groups.get("", "/"), mount))
        for mount in _writable_first(mounts, Version.V2)
    ]


def _writable_first(mounts: Iterable[CgroupMount], version: Version) -> list[CgroupMount]:
    found = [mount for mount in mounts if mount.version is version]
    return sorted(found, key=lambda mount: not mount.writable)


def groups_of(process: int, proc: Path = Path("/proc")) -> str:
    """Return the text of /proc/PID/cgroup; raise SpawnerUnavailable if there is no such process."""
    text = kernel_files.read(proc / str(process) / "cgroup")
    if text is None and process != os.getpid():
        raise SpawnerUnavailable(f"process {process}, the parent of new jobs, has just ended; try again")
    return text or ""


def detect(process: int, proc: Path = Path("/proc")) -> Hierarchy:
    """Return what can be seen from here and used for the children of a process.

    In v2 that is what was delegated to it, else the top, which only root can write. Empty where no
    cgroup file system is mounted; SpawnerUnavailable if there is no such process.
    """
    mounts = parse_mountinfo(kernel_files.read(proc / "self" / "mountinfo") or "")
    own_groups = parse_own_groups(groups_of(process, proc))
    legacy, candidates = find_legacy(mounts, own_groups), find_unified(mounts, own_groups)
    if not candidates:
        return Hierarchy(legacy)
    delegated = next(filter(None, (delegated_group(*candidate) for candidate in candidates)), None)
    unified = delegated or candidates[0][0]
    controllers = kernel_files.read(unified / "cgroup.controllers") or ""
    return Hierarchy(
        legacy, unified, frozenset(controllers.split()), delegated is not None, candidates[0][0]
    )
