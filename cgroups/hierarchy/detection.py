"""Detects the cgroup hierarchies of this host and the part of them that a process may use."""

import os
from pathlib import Path

from ...core.errors import SpawnerUnavailable
from ...core.host.mountinfo import parse_mountinfo
from .. import kernel_files
from .delegation import find_delegated
from .hierarchy import Hierarchy
from .mounts import find_legacy, find_unified, parse_own_cgroups


def own_cgroups_text(process: int, proc: Path = Path("/proc")) -> str:
    """Return the text of /proc/PID/cgroup; raise SpawnerUnavailable if there is no such process."""
    text = kernel_files.read(f"{proc}/{process}/cgroup")
    if text is None and process != os.getpid():
        raise SpawnerUnavailable(f"process {process}, the parent of new jobs, has just exited; try again")
    return text or ""


def detect(process: int, proc: Path = Path("/proc")) -> Hierarchy:
    """Return the hierarchies that this process sees and that the children of ``process`` can use.

    The base in v2 is the cgroup delegated to it, otherwise the mount point, which only root can
    write. Empty where no cgroup file system is mounted. Raises SpawnerUnavailable if there is no
    such process.
    """
    mounts = parse_mountinfo(kernel_files.read(proc / "self" / "mountinfo") or "")
    own_cgroups = parse_own_cgroups(own_cgroups_text(process, proc))
    legacy, candidates = find_legacy(mounts, own_cgroups), find_unified(mounts, own_cgroups)
    if not candidates:
        return Hierarchy(legacy)
    delegated = next(filter(None, (find_delegated(*candidate) for candidate in candidates)), None)
    unified = delegated or candidates[0][0]
    controllers = kernel_files.read(unified / "cgroup.controllers") or ""
    return Hierarchy(
        legacy, unified, frozenset(controllers.split()), delegated is not None, candidates[0][0]
    )
