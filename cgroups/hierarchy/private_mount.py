"""A private mount of cgroup v2, on hosts that mount only v1.

It has none of the controllers that v1 has, but it has cgroup.kill and cgroup.events. Without them
processes have to be found and killed one by one. https://man7.org/linux/man-pages/man2/mount.2.html
"""

import ctypes
import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .. import kernel_files
from .hierarchy import Hierarchy

_log = logging.getLogger(__name__)

MOUNT_NAME = "worker-cgroup2"
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8

_libc = ctypes.CDLL(None, use_errno=True)


def with_unified(hierarchy: Hierarchy, state_dir: Path) -> Hierarchy:
    """Return the hierarchy with cgroup v2 mounted below the state directory, unless the host mounts it.

    A mount of another worker does not count: that worker unmounts it when it exits. Returns the
    hierarchy unchanged where mount(2) is not allowed: without CAP_SYS_ADMIN, or in most containers.
    """
    point = state_dir / MOUNT_NAME
    unified = hierarchy.unified
    if not hierarchy.legacy or (unified and (unified == point or unified.name != MOUNT_NAME)):
        return hierarchy
    try:
        if not (point / "cgroup.controllers").exists():  # a killed server leaves it mounted
            point.mkdir(mode=0o700, parents=True, exist_ok=True)
            _mount(point)
    except OSError as error:
        _log.info("cannot mount cgroup v2 at %s: %s", point, error.strerror)
        with suppress(OSError):
            point.rmdir()
        return hierarchy
    controllers = kernel_files.read(point / "cgroup.controllers") or ""
    return replace(hierarchy, unified=point, unified_controllers=frozenset(controllers.split()), top=point)


def unmount(point: Path) -> None:
    """Unmount a private mount; it stays mounted while a file in it is open."""
    if point.name == MOUNT_NAME and _libc.umount2(os.fsencode(point), 0) == 0:
        with suppress(OSError):
            point.rmdir()


def _mount(point: Path) -> None:
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if _libc.mount(b"worker", os.fsencode(point), b"cgroup2", ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(point))
