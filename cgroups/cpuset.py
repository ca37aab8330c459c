"""The cpuset controller: on which CPUs a job may run.

https://docs.kernel.org/admin-guide/cgroup-v1/cpusets.html
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from ..core.errors import InvalidJobSpec
from ..core.limits import ResourceLimits, ResourceUsage
from .group import Group
from .hierarchy import Version
from .settings import Setting

name = "cpuset"

_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)
_FIELD = "limits.cpuset"
_LISTS = ("cpuset.cpus", "cpuset.mems")
_LONGEST = 4096  # characters; what the kernel takes at least in one write
_MOST = 8192  # CPUs; the largest NR_CPUS there is


def asked(limits: ResourceLimits) -> bool:
    """Tell whether CPUs are chosen."""
    return limits.cpuset is not None


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:
    """Plan the list of CPUs; raise InvalidJobSpec for CPUs that are not to be had here."""
    there = _cpus_of(Group(os.path.dirname(group.path), group.version))
    chosen = None
    if limits.cpuset is not None:
        wanted = parse(limits.cpuset)
        if missing := wanted - there:
            raise InvalidJobSpec(
                _FIELD, f"there is no CPU {listed(missing)} here; there are {listed(there)}"
            )
        chosen = listed(wanted)
    # A list that was set cannot be emptied under a running process (ENOSPC), not on v2 either, where
    # a group that never had one takes that of the group above it.
    if chosen is not None or group.text("cpuset.cpus").strip():
        yield Setting(group, "cpuset.cpus", chosen, listed(there))


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:  # noqa: ARG001 - as of every controller
    """Add nothing: which CPUs were used is not counted."""
    return so_far


def parse(text: str) -> frozenset[int]:
    """Return the CPUs in a list like "0-2,4"; raise InvalidJobSpec for anything else."""
    if len(text) > _LONGEST:
        raise InvalidJobSpec(_FIELD, f"{len(text)} characters; the kernel takes {_LONGEST}")
    found: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else 1
        last = int(match[2] or first) if match else 0
        if first > last:
            raise InvalidJobSpec(_FIELD, f"{part!r} in {text!r} is neither a CPU nor a range; write 0-2,4")
        if last >= _MOST:
            raise InvalidJobSpec(_FIELD, f"there is no CPU {last} here; no kernel has {_MOST}")
        found.update(range(first, last + 1))
    return frozenset(found)


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
    return parse(text) if text else frozenset()


def listed(cpus: frozenset[int]) -> str:
    """Return CPUs as the kernel writes them, neighbours as a range."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ranges)
