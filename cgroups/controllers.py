"""The controllers that a job gets groups of; each is a module with the same three functions."""

from collections.abc import Mapping
from typing import Final, Protocol

from ..core.limits import ResourceLimits, ResourceUsage
from . import cpu, cpuacct, memory, pids
from .group import Group


class Controller(Protocol):
    """What bounds and counts one kind of resource, in a group of v1 or v2."""

    @property
    def name(self) -> str:
        """The kernel's name for it, as in /proc/cgroups."""
        ...

    def asked(self, limits: ResourceLimits, /) -> bool:
        """Tell whether there is anything to apply."""
        ...

    def apply(self, group: Group, limits: ResourceLimits, /) -> None:
        """Set what is asked for; raise LimitsUnsupported or LimitsRejected."""
        ...

    def usage(self, group: Group, so_far: ResourceUsage, /) -> ResourceUsage:
        """Return ``so_far`` with the readings of this controller filled in."""
        ...


CONTROLLERS: Final[tuple[Controller, ...]] = (cpu, cpuacct, memory, pids)


def read_usage(groups: Mapping[str, Group]) -> ResourceUsage:
    """Return the readings of all of a job's groups, which are given by controller."""
    usage = ResourceUsage()
    for controller in CONTROLLERS:
        if controller.name in groups:
            usage = controller.usage(groups[controller.name], usage)
    return usage
