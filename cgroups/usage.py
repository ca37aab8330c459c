"""Reads the resource usage of a job: each controller reads its own files."""

from collections.abc import Mapping

from ..core.model.limits import ResourceUsage
from . import pressure as psi
from .cgroup import Cgroup
from .controllers import pids
from .controllers.all_controllers import CONTROLLERS


def read_usage(
    cgroups: Mapping[str, Cgroup], unified: Cgroup | None, *, pressure: bool = True
) -> ResourceUsage:
    """Return the readings of all cgroups of a job; ``unified`` is that of v2, if there is one."""
    usage = ResourceUsage()
    for controller in CONTROLLERS:
        if controller.name in cgroups:
            usage = controller.usage(cgroups[controller.name], usage)
    if unified is None:
        return usage
    if pids.name not in cgroups:
        usage = pids.usage_without_controller(unified, usage)
    return psi.usage(unified, usage) if pressure else usage
