"""The cpuset controller: on which CPUs a job may run.

https://docs.kernel.org/admin-guide/cgroup-v1/cpusets.html
"""

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ...core.errors import InvalidJobSpec
from ...core.model.limits import ResourceLimits, ResourceUsage, parse_cpus
from ..group import Group
from ..hierarchy.hierarchy import Version
from ..settings import Setting

name = "cpuset"

_LISTS = ("cpuset.cpus", "cpuset.mems")


def asked(limits: ResourceLimits) -> bool:
    """Tell whether CPUs are chosen."""
    return limits.cpuset is not None


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:
    """Plan the list of CPUs; raise InvalidJobSpec for CPUs that are not to be had here."""
    there = _cpus_of(Group(os.path.dirname(group.path), group.version))
    chosen = None
    if limits.cpuset is not None:
        wanted = parse_cpus(limits.cpuset)
        if missing := wanted - there:
            raise InvalidJobSpec(
                "limits.cpuset", f"there is no CPU {listed(missing)} here; there are {listed(there)}"
            )
        chosen = listed(wanted)
    # A list that was set cannot be emptied under a running process (ENOSPC), not on v2 either, where
    # a group that never had one takes that of the group above it.
    if chosen is not None or group.text("cpuset.cpus").strip():
        yield Setting(group, "cpuset.cpus", chosen, listed(there))


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:  # noqa: ARG001 - as of every controller
    """Add nothing: which CPUs were used is not counted."""
    return so_far


def inherit(path_down: Sequence[Path]) -> None:
    """Give the groups of v1 below the first those CPUs and memory nodes that it has, unless they have some.

    In a new group both lists are empty, and no process can join it (ENOSPC). With clone_children
    the kernel fills those of the next jobs by itself.
    """
    last = Group(str(path_down[-1]), Version.V1)
    if all(last.text(file).strip() for file in _LISTS):
        return
    for above, below in pairwise(path_down):
        source, target = Group(str(above), Version.V1), Group(str(below), Version.V1)
        for file in _LISTS:
            if target.has(file) and not target.text(file).strip():
                target.set(file, source.text(file).strip())
    parent = Group(str(path_down[-2]), Version.V1)
    if parent.count("cgroup.clone_children") == 0:
        parent.set("cgroup.clone_children", 1)


def _cpus_of(group: Group) -> frozenset[int]:
    file = "cpuset.cpus" if group.version is Version.V1 else "cpuset.cpus.effective"
    text = group.text(file).strip()
    return parse_cpus(text) if text else frozenset()


def listed(cpus: frozenset[int]) -> str:
    """Return CPUs as the kernel writes them, neighbours as a range."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)
