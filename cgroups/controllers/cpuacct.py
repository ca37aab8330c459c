"""CPU time: a controller of its own in v1, a file of every cgroup in v2. It has no limits."""

from collections.abc import Iterator
from dataclasses import replace

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..cgroup import Cgroup
from ..hierarchy.hierarchy import CPU_TIME, Version
from ..settings import Setting

name = CPU_TIME


def requested(limits: ResourceLimits) -> bool:  # noqa: ARG001 - the protocol's signature
    """Return False: there are no limits."""
    return False


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:  # noqa: ARG001 - likewise
    """Return no settings."""
    return iter(())


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add the CPU time of all processes that are or were in the cgroup."""
    if cgroup.version is Version.V2:
        return replace(so_far, cpu_usec=cgroup.table("cpu.stat").get("usage_usec"))
    nanoseconds = cgroup.count("cpuacct.usage")
    return replace(so_far, cpu_usec=None if nanoseconds is None else nanoseconds // 1000)
