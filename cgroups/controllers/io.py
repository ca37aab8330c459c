"""The io controller (v1: blkio): bytes and operations per second of a block device.

On v1 it does not reach buffered writes: they are made by the kernel, in no job's name.
https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

from ...core.errors import LimitsRejected
from ...core.model.limits import IoLimit, ResourceLimits, ResourceUsage
from ..group import Group
from ..hierarchy.hierarchy import Version
from ..settings import Setting
from .devices import disks, is_stacked

_log = logging.getLogger(__name__)

name = "io"

_UNLIMITED_V2 = "rbps=max wbps=max riops=max wiops=max"
_FILES_V1 = {
    "read_bytes_per_second": "blkio.throttle.read_bps_device",
    "write_bytes_per_second": "blkio.throttle.write_bps_device",
    "read_operations_per_second": "blkio.throttle.read_iops_device",
    "write_operations_per_second": "blkio.throttle.write_iops_device",
}
_MOST_OPERATIONS_V1 = (1 << 32) - 1  # an unsigned int in the kernel, and as good as no limit


def asked(limits: ResourceLimits) -> bool:
    """Tell whether there is a limit for any device."""
    return bool(limits.io)


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:
    """Plan a line for each device, given as MAJ:MIN, and for those whose limits are to be lifted."""
    wanted = {limit.device: limit for limit in limits.io}
    if group.version is Version.V2:
        for device in [*wanted, *(_devices_in(group, "io.max") - wanted.keys())]:
            value = _line_v2(wanted[device]) if device in wanted else None
            yield Setting(group, "io.max", value, _UNLIMITED_V2, device)
        return
    for field, file in _FILES_V1.items():
        for device in [*wanted, *(_devices_in(group, file) - wanted.keys())]:
            value = getattr(wanted[device], field) if device in wanted else None
            yield Setting(group, file, _bounded(field, value), "0", device)


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add bytes and operations of all devices; each once, where one is stacked upon others."""
    if group.version is Version.V2:
        table = _table_v2(group)
        keys = ("rbytes", "wbytes", "rios", "wios")
    else:
        table = _table_v1(group)
        keys = ("bytes Read", "bytes Write", "operations Read", "operations Write")
    if table is None:
        return so_far
    counted = [row for device, row in table.items() if len(table) == 1 or not is_stacked(device)]
    read, written, reads, writes = (sum(row.get(key, 0) for row in counted) for key in keys)
    return replace(
        so_far,
        io_read_bytes=read,
        io_write_bytes=written,
        io_read_operations=reads,
        io_write_operations=writes,
    )


def count(group: Group) -> None:
    """Have the I/O of the groups below this one of v1 counted, for all disks that there are now.

    Since Linux 6.10 a disk counts nothing before the first limit is written for it, be it none.
    """
    for disk in disks():
        try:
            group.set("blkio.throttle.read_bps_device", f"{disk} 0")
        except LimitsRejected as error:
            _log.debug("the I/O of %s is not counted: %s", disk, error)


def _line_v2(limit: IoLimit) -> str:
    values = {
        "rbps": limit.read_bytes_per_second,
        "wbps": limit.write_bytes_per_second,
        "riops": limit.read_operations_per_second,
        "wiops": limit.write_operations_per_second,
    }
    return " ".join(f"{key}={'max' if value is None else value}" for key, value in values.items())


def _bounded(field: str, value: int | None) -> int | None:
    return min(value, _MOST_OPERATIONS_V1) if value is not None and "operations" in field else value


def _devices_in(group: Group, file: str) -> set[str]:
    return {line.split(" ")[0] for line in group.text(file).splitlines()}


def _table_v2(group: Group) -> dict[str, dict[str, int]] | None:
    """Return io.stat by device."""
    if not group.has("io.stat"):
        return None
    table = {}
    for line in group.text("io.stat").splitlines():
        device, *words = line.split()
        pairs = (word.partition("=") for word in words)
        table[device] = {key: int(value) for key, _, value in pairs if value.isdecimal()}
    return table


def _table_v1(group: Group) -> dict[str, dict[str, int]] | None:
    """Return by device what blkio.throttle.io_service_bytes and io_serviced count."""
    table: dict[str, dict[str, int]] = {}
    there = False
    for kind, file in (("bytes", "io_service_bytes"), ("operations", "io_serviced")):
        # With those of groups that the job makes itself, where the kernel has that (Linux 4.2).
        recursive = group.text(f"blkio.throttle.{file}_recursive")
        text = recursive or group.text(f"blkio.throttle.{file}")
        there = there or bool(text)
        for line in text.splitlines():
            words = line.split()  # "254:0 Read 4096", and at last "Total 4096"
            if len(words) == 3:
                table.setdefault(words[0], {})[f"{kind} {words[1]}"] = int(words[2])
    return table if there else None
