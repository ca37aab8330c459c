"""The pids controller: the maximum number of processes and threads. The same in v1 and v2."""

from collections.abc import Iterator
from dataclasses import replace

from ...core.model.limits import ResourceLimits, ResourceUsage
from ..cgroup import Cgroup
from ..settings import Setting

name = "pids"


def requested(limits: ResourceLimits) -> bool:
    """Whether a maximum is requested."""
    return limits.pids is not None


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:
    """Return the setting of the maximum."""
    yield Setting(cgroup, "pids.max", limits.pids, "max")


def usage_without_controller(unified: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add the same by counting, where only a cgroup of v2 without this controller contains the job."""
    threads = sum(1 for _ in unified.words_below("cgroup.threads"))
    return replace(so_far, pids_current=threads)


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add the current number of processes and threads."""
    return replace(so_far, pids_current=cgroup.count("pids.current"))
