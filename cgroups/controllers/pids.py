"""The pids controller: how many processes and threads there may be. The same on v1 and v2."""

from collections.abc import Iterator
from dataclasses import replace

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..group import Group
from ..settings import Setting

name = "pids"


def asked(limits: ResourceLimits) -> bool:
    """Tell whether the number is to be limited."""
    return limits.pids is not None


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:
    """Plan the limit."""
    yield Setting(group, "pids.max", limits.pids, "max")


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add how many there are now."""
    return replace(so_far, pids_current=group.count("pids.current"))
