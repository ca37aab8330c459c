"""Where the cgroup file systems are mounted, and which cgroup of each a process is in.

Pure functions over the text of /proc: see cgroups(7).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ...core.host.mountinfo import Mount
from .hierarchy import V1_NAMES

_V1, _V2 = "cgroup", "cgroup2"
"""The types of the file systems."""


def parse_own_cgroups(text: str) -> dict[str, str]:
    """Return the cgroup by v1 controller in the text of /proc/PID/cgroup; that of v2 under ""."""
    cgroups: dict[str, str] = {}
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            cgroups.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return cgroups


def directory_of(cgroup: str, mount: Mount) -> Path:
    """Return the directory of a cgroup of /proc/PID/cgroup below a mount.

    Returns the mount point itself if the mount shows another part of the tree: in a container that
    has no cgroup namespace, or that has a cgroup mount of its host. The root of a mount is relative
    to the cgroup namespace; "/.." in it means: outside of that.
    """
    path, root = PurePosixPath(cgroup), PurePosixPath(mount.root)
    if ".." not in path.parts and path.is_relative_to(root):
        return Path(mount.point, path.relative_to(root))
    return Path(mount.point)


def find_legacy(mounts: Iterable[Mount], own_cgroups: Mapping[str, str]) -> dict[str, Path]:
    """Return where each v1 controller is mounted; of several mounts the first writable one."""
    legacy: dict[str, Path] = {}
    names = {v1_name: name for name, v1_name in V1_NAMES.items()}
    for mount in _writable_first(mounts, _V1):
        # Other options are not controllers: rw, xattr, release_agent=..., name=systemd.
        for controller in mount.super_options & own_cgroups.keys():
            legacy.setdefault(names.get(controller, controller), Path(mount.point))
    return legacy


def find_unified(mounts: Iterable[Mount], own_cgroups: Mapping[str, str]) -> list[tuple[Path, Path]]:
    """Return the mounts of v2, the preferred one first: each mount point, and the own cgroup below it."""
    return [
        (Path(mount.point), directory_of(own_cgroups.get("", "/"), mount))
        for mount in _writable_first(mounts, _V2)
    ]


def _writable_first(mounts: Iterable[Mount], kind: str) -> list[Mount]:
    found = [mount for mount in mounts if mount.kind == kind]
    return sorted(found, key=lambda mount: not mount.writable)
