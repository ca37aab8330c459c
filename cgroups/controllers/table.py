"""The controllers that a job gets groups of; each is a module with the same three functions."""

from asyncio import to_thread
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..group import Group
from ..settings import Setting
from . import (
    cpu,
    cpuacct,
    cpuset,
    io,
    memory,
    pids,
    pressure,
)
from .devices import on_devices


class Controller(Protocol):
    """What bounds and counts one kind of resource, in a group of v1 or v2."""

    @property
    def name(self) -> str:
        """The kernel's name for it, as in cgroup.controllers."""
        ...

    def asked(self, limits: ResourceLimits, /) -> bool:
        """Tell whether there is anything to limit."""
        ...

    def settings(self, group: Group, limits: ResourceLimits, /) -> Iterator[Setting]:
        """Plan what the group's files have to say, in the order of the writes.

        Raises Unenforceable for what this host cannot do, InvalidJobSpec for what makes no sense here.
        """
        ...

    def usage(self, group: Group, so_far: ResourceUsage, /) -> ResourceUsage:
        """Return ``so_far`` with the readings of this controller filled in."""
        ...


CONTROLLERS: Final[tuple[Controller, ...]] = (cpu, cpuacct, cpuset, io, memory, pids)


async def with_devices(limits: ResourceLimits) -> ResourceLimits:
    """Return the limits with every device as MAJ:MIN; raise InvalidJobSpec where that is none.

    In a thread: a path may lie on a file system that does not answer.
    """
    return replace(limits, io=await to_thread(on_devices, limits.io)) if limits.io else limits


def plan(groups: Mapping[str, Group], limits: ResourceLimits) -> list[Setting]:
    """Return the settings of all of a job's groups, which are given by controller."""
    return [
        setting
        for controller in CONTROLLERS
        if controller.name in groups
        for setting in controller.settings(groups[controller.name], limits)
    ]


def read_usage(groups: Mapping[str, Group], unified: Group | None) -> ResourceUsage:
    """Return the readings of all of a job's groups; ``unified`` is that of v2, with controllers or none."""
    usage = ResourceUsage()
    for controller in CONTROLLERS:
        if controller.name in groups:
            usage = controller.usage(groups[controller.name], usage)
    return pressure.usage(unified, usage) if unified else usage
