"""CPU time: a controller of its own on v1, a file of every group on v2. It limits nothing."""

from collections.abc import Iterator
from dataclasses import replace

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..group import Group
from ..hierarchy.hierarchy import CPU_TIME, Version
from ..settings import Setting

name = CPU_TIME


def asked(limits: ResourceLimits) -> bool:  # noqa: ARG001 - every controller has the same three functions
    """Tell that there is nothing to limit."""
    return False


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:  # noqa: ARG001 - likewise
    """Plan nothing."""
    return iter(())


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add the CPU time of all processes that are or were in the group."""
    if group.version is Version.V2:
        return replace(so_far, cpu_usec=group.table("cpu.stat").get("usage_usec"))
    nanoseconds = group.count("cpuacct.usage")
    return replace(so_far, cpu_usec=None if nanoseconds is None else nanoseconds // 1000)
