"""The cpuset controller: the CPUs that a job may run on.

https://docs.kernel.org/admin-guide/cgroup-v1/cpusets.html
"""

import os
from collections.abc import Iterator

from ...core.errors import InvalidJobSpec
from ...core.model.limits import ResourceLimits, ResourceUsage, parse_cpus
from ..cgroup import Cgroup
from ..hierarchy.hierarchy import Version
from ..settings import Setting

name = "cpuset"

_LISTS = ("cpuset.cpus", "cpuset.mems")


def requested(limits: ResourceLimits) -> bool:
    """Whether a list of CPUs is requested."""
    return limits.cpuset is not None


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:
    """Return the setting of the list of CPUs; raise InvalidJobSpec for CPUs that are not available."""
    available = _cpus_of(_parent(cgroup))
    chosen = None
    if limits.cpuset is not None:
        requested_cpus = parse_cpus(limits.cpuset)
        if missing := requested_cpus - available:
            raise InvalidJobSpec(
                "limits.cpuset",
                f"there is no CPU {format_cpus(missing)} here; available: {format_cpus(available)}",
            )
        chosen = format_cpus(requested_cpus)
    # A list that was set cannot be emptied under a running process (ENOSPC), not in v2 either, where
    # a cgroup that never had one uses that of its parent.
    if chosen is not None or cgroup.text("cpuset.cpus").strip():
        yield Setting(cgroup, "cpuset.cpus", chosen, format_cpus(available))


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:  # noqa: ARG001 - the protocol's signature
    """Add nothing: the kernel does not count which CPUs were used."""
    return so_far


def inherit(cgroup: Cgroup) -> None:
    """Copy CPUs and memory nodes of the closest cgroup of v1 that has them to this one and those between.

    In a new cgroup both lists are empty, and no process can join it (ENOSPC). With clone_children
    the kernel copies them itself for the next jobs.
    """
    lacking: list[Cgroup] = []
    while cgroup.has(_LISTS[0]) and not all(cgroup.text(file).strip() for file in _LISTS):
        lacking.append(cgroup)
        cgroup = _parent(cgroup)
    for below in reversed(lacking):
        for file in _LISTS:
            if not below.text(file).strip():
                below.set(file, cgroup.text(file).strip())
        cgroup = below
    if lacking and _parent(cgroup).count("cgroup.clone_children") == 0:
        _parent(cgroup).set("cgroup.clone_children", 1)


def _parent(cgroup: Cgroup) -> Cgroup:
    return Cgroup(os.path.dirname(cgroup.path), cgroup.version)


def _cpus_of(cgroup: Cgroup) -> frozenset[int]:
    file = "cpuset.cpus" if cgroup.version is Version.V1 else "cpuset.cpus.effective"
    text = cgroup.text(file).strip()
    return parse_cpus(text) if text else frozenset()


def format_cpus(cpus: frozenset[int]) -> str:
    """Return CPUs as the kernel writes them, consecutive ones as a range."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)
