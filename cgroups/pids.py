"""The pids controller: how many processes and threads there may be. The same on v1 and v2."""

from dataclasses import replace

from ..core.limits import ResourceLimits, ResourceUsage
from .group import Group

name = "pids"


def asked(limits: ResourceLimits) -> bool:
    """Tell whether the number is to be limited."""
    return limits.pids is not None


def apply(group: Group, limits: ResourceLimits) -> None:
    """Set the limit; raise LimitsRejected if the kernel refuses."""
    if limits.pids is not None:
        group.set("pids.max", limits.pids)


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add how many there are now."""
    return replace(so_far, pids_current=group.count("pids.current"))
