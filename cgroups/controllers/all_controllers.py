"""The controllers that a job gets cgroups for. Each is a module with the functions of Controller."""

from collections.abc import Mapping
from typing import Final

from ...core.model.limits import ResourceLimits
from ..cgroup import Cgroup
from ..settings import Setting
from . import (
    cpu,
    cpuacct,
    cpuset,
    io,
    memory,
    pids,
)
from .controller import Controller

CONTROLLERS: Final[tuple[Controller, ...]] = (cpu, cpuacct, cpuset, io, memory, pids)


def all_settings(cgroups: Mapping[str, Cgroup], limits: ResourceLimits) -> list[Setting]:
    """Return the settings of all cgroups of a job, which are given by controller."""
    return [
        setting
        for controller in CONTROLLERS
        if controller.name in cgroups
        for setting in controller.settings(cgroups[controller.name], limits)
    ]
