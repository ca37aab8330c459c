"""The io controller (v1: blkio): bytes and operations per second of a block device.

In v1 it does not apply to buffered writes: the kernel writes them later, charged to no job.
https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

from ...core.errors import LimitsRejected
from ...core.model.limits import IoLimit, ResourceLimits, ResourceUsage
from ..block_devices import disks, is_stacked
from ..cgroup import Cgroup
from ..hierarchy.hierarchy import Version
from ..settings import Setting

_log = logging.getLogger(__name__)

name = "io"

_UNLIMITED_V2 = "rbps=max wbps=max riops=max wiops=max"
_FILES_V1 = {
    "read_bytes_per_second": "blkio.throttle.read_bps_device",
    "write_bytes_per_second": "blkio.throttle.write_bps_device",
    "read_operations_per_second": "blkio.throttle.read_iops_device",
    "write_operations_per_second": "blkio.throttle.write_iops_device",
}
_MAX_OPERATIONS_V1 = (1 << 32) - 1  # an unsigned int in the kernel, in effect no limit


def requested(limits: ResourceLimits) -> bool:
    """Whether a limit for any device is requested."""
    return bool(limits.io)


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:
    """Return a setting for each device, given as MAJ:MIN, and for each whose limits are to be lifted."""
    by_device = {limit.device: limit for limit in limits.io}
    if cgroup.version is Version.V2:
        for device in [*by_device, *(_devices_in(cgroup, "io.max") - by_device.keys())]:
            value = _line_v2(by_device[device]) if device in by_device else None
            yield Setting(cgroup, "io.max", value, _UNLIMITED_V2, device)
        return
    for field, file in _FILES_V1.items():
        for device in [*by_device, *(_devices_in(cgroup, file) - by_device.keys())]:
            value = getattr(by_device[device], field) if device in by_device else None
            yield Setting(cgroup, file, _bounded(field, value), "0", device)


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add bytes and operations of all devices; a device stacked on others is not counted twice."""
    if cgroup.version is Version.V2:
        table = _table_v2(cgroup)
        keys = ("rbytes", "wbytes", "rios", "wios")
    else:
        table = _table_v1(cgroup)
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


def enable_accounting(cgroup: Cgroup) -> None:
    """Make the kernel count the I/O of the cgroups below this one of v1, for all current disks.

    Since Linux 6.10 it counts nothing for a disk before a limit is written for it, even "no limit".
    """
    for disk in disks():
        try:
            cgroup.set("blkio.throttle.read_bps_device", f"{disk} 0")
        except LimitsRejected as error:
            _log.debug("the I/O of disk %s is not counted: %s", disk, error)


def _line_v2(limit: IoLimit) -> str:
    values = {
        "rbps": limit.read_bytes_per_second,
        "wbps": limit.write_bytes_per_second,
        "riops": limit.read_operations_per_second,
        "wiops": limit.write_operations_per_second,
    }
    return " ".join(f"{key}={'max' if value is None else value}" for key, value in values.items())


def _bounded(field: str, value: int | None) -> int | None:
    return min(value, _MAX_OPERATIONS_V1) if value is not None and "operations" in field else value


def _devices_in(cgroup: Cgroup, file: str) -> set[str]:
    return {line.split(" ")[0] for line in cgroup.text(file).splitlines()}


def _table_v2(cgroup: Cgroup) -> dict[str, dict[str, int]] | None:
    """Return io.stat by device."""
    if not cgroup.has("io.stat"):
        return None
    table = {}
    for line in cgroup.text("io.stat").splitlines():
        device, *words = line.split()
        pairs = (word.partition("=") for word in words)
        table[device] = {key: int(value) for key, _, value in pairs if value.isdecimal()}
    return table


def _table_v1(cgroup: Cgroup) -> dict[str, dict[str, int]] | None:
    """Return the counts of blkio.throttle.io_service_bytes and io_serviced by device."""
    table: dict[str, dict[str, int]] = {}
    found = False
    for kind, file in (("bytes", "io_service_bytes"), ("operations", "io_serviced")):
        # Including cgroups that the job creates itself, where the kernel has that (Linux 4.2).
        recursive = cgroup.text(f"blkio.throttle.{file}_recursive")
        text = recursive or cgroup.text(f"blkio.throttle.{file}")
        found = found or bool(text)
        for line in text.splitlines():
            words = line.split()  # "254:0 Read 4096", and the last line "Total 4096"
            if len(words) == 3:
                table.setdefault(words[0], {})[f"{kind} {words[1]}"] = int(words[2])
    return table if found else None
