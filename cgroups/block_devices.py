"""The block devices of I/O limits: /dev/x, MAJ:MIN or any path becomes the number of the whole device."""

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePath

from ..core.errors import InvalidJobSpec
from ..core.host.mountinfo import mount_of, parse_mountinfo
from ..core.look_up import look_up
from ..core.model.limits import IO_RATES, IoLimit, ResourceLimits
from . import kernel_files

_FIELD = "limits.io"
_NUMBER = re.compile(r"\d{1,7}:\d{1,7}", re.ASCII)
_SYS = Path("/sys")
_DEV = Path("/dev")


async def with_devices(limits: ResourceLimits) -> ResourceLimits:
    """Return the limits with every device as MAJ:MIN; raise InvalidJobSpec as ``on_devices``.

    Raises HostUnresponsive for a path on a file system that does not respond.
    """
    return replace(limits, io=await look_up(on_devices, limits.io)) if limits.io else limits


def on_devices(limits: Iterable[IoLimit], sys: Path = _SYS) -> tuple[IoLimit, ...]:
    """Return the limits with their devices as MAJ:MIN, those of one device merged.

    Raises InvalidJobSpec for a name that is not a block device, and for two limits that contradict
    each other. May block on a file system that does not respond.
    """
    found: dict[str, tuple[str, IoLimit]] = {}
    for limit in limits:
        number = device_number(limit.device, sys)
        if number in found:
            name, other = found[number]
            found[number] = (name, _merged(name, other, limit, number))
        else:
            found[number] = (limit.device, replace(limit, device=number))
    return tuple(limit for _, limit in found.values())


def device_number(name: str, sys: Path = _SYS) -> str:
    """Return MAJ:MIN of the whole disk of a name; raise InvalidJobSpec if there is none."""
    if _NUMBER.fullmatch(name):
        major, minor = map(int, name.split(":"))
    elif name.startswith("/"):
        major, minor = _number_of_path(name)
    else:
        raise InvalidJobSpec(_FIELD, f"{name!r} is neither MAJ:MIN nor an absolute path")
    number = f"{major}:{minor}"
    node = sys / "dev/block" / number
    if not node.exists():
        raise _no_device(name)
    if (node / "partition").exists():
        # The kernel accepts limits only for whole devices. The link leads below the disk's directory.
        return (kernel_files.read(node.resolve().parent / "dev") or "").strip()
    return number


def disks(sys: Path = _SYS) -> list[str]:
    """Return MAJ:MIN of every whole disk that has a size: no empty loop devices or drives."""
    found = []
    for disk in sorted((sys / "block").glob("*")):
        number = (kernel_files.read(disk / "dev") or "").strip()
        if number and kernel_files.read_count(disk / "size"):
            found.append(number)
    return found


def is_stacked(number: str, sys: Path = _SYS) -> bool:
    """Whether a device (dm, LVM, md) forwards its I/O to others, where it is counted again."""
    try:
        return bool(os.listdir(sys / "dev/block" / number / "slaves"))
    except FileNotFoundError:
        return False


def _number_of_path(name: str) -> tuple[int, int]:
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        raise _no_device(name) from None
    if stat.S_ISCHR(status.st_mode):
        raise _no_device(name)
    device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    major, minor = os.major(device), os.minor(device)
    if major == 0:
        raise _no_device(name)
    return major, minor


def _no_device(name: str) -> InvalidJobSpec:
    """Return the error for a name without a block device.

    For a path it depends on the path and the mounts alone, which every job can see: otherwise a client
    could learn whether there is a file that its jobs cannot see.
    """
    if not name.startswith("/"):
        return InvalidJobSpec(_FIELD, f"there is no block device {name}; see lsblk")
    path = PurePath(os.path.normpath(name))
    mount = mount_of(path, parse_mountinfo(kernel_files.read(Path("/proc/self/mountinfo")) or ""))
    if mount is None or not mount.device.startswith("0:") or path.is_relative_to(_DEV):
        reason = "is neither a block device nor on the file system of one; use /dev/DISK or MAJ:MIN"
    else:
        reason = f"is on {mount.kind}, which is not a block device; use MAJ:MIN of the disk"
    return InvalidJobSpec(_FIELD, f"{name} {reason} (see lsblk)")


def _merged(name: str, first: IoLimit, second: IoLimit, number: str) -> IoLimit:
    values = {}
    for field in IO_RATES:
        ours, theirs = getattr(first, field), getattr(second, field)
        if None not in {ours, theirs} and ours != theirs:
            raise InvalidJobSpec(
                _FIELD,
                f"{name} and {second.device} are one device, {number}, with two values for {field}; "
                "specify it once",
            )
        values[field] = theirs if ours is None else ours
    return replace(first, **values)
