"""The cpu controller: a quota in every period, and a weight under contention.

https://docs.kernel.org/scheduler/sched-bwc.html
"""

from collections.abc import Iterator
from dataclasses import replace

from ...core.model.limits import CpuLimit, ResourceLimits, ResourceUsage
from ..cgroup import Cgroup
from ..hierarchy.hierarchy import Version
from ..settings import Setting

name = "cpu"

PERIOD_USEC = 100_000
_MIN_QUOTA_USEC = 1000  # min_cfs_quota_period in kernel/sched/core.c
_SHARES_PER_WEIGHT = 1024 / 100  # the defaults of cpu.shares and of cpu.weight
_MIN_SHARES, _MAX_SHARES = 2, 1 << 18  # MIN_SHARES and MAX_SHARES in kernel/sched/sched.h


def requested(limits: ResourceLimits) -> bool:
    """Whether a quota or a weight is requested."""
    return limits.cpu != CpuLimit()


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:
    """Return the settings of quota and weight."""
    quota, weight = limits.cpu.quota, limits.cpu.weight
    usec = None if quota is None else max(_MIN_QUOTA_USEC, round(quota * PERIOD_USEC))
    if cgroup.version is Version.V2:
        yield Setting(cgroup, "cpu.max", None if usec is None else f"{usec} {PERIOD_USEC}", "max")
        yield Setting(cgroup, "cpu.weight", weight, "100")
    else:
        if usec is not None:
            yield Setting(cgroup, "cpu.cfs_period_us", PERIOD_USEC, str(PERIOD_USEC))
        yield Setting(cgroup, "cpu.cfs_quota_us", usec, "-1")
        yield Setting(cgroup, "cpu.shares", None if weight is None else _shares(weight), "1024")


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add how long the cgroup was throttled by its quota."""
    stat = cgroup.table("cpu.stat")
    if cgroup.version is Version.V2:
        return replace(so_far, throttled_usec=stat.get("throttled_usec"))
    throttled = stat.get("throttled_time")
    return replace(so_far, throttled_usec=None if throttled is None else throttled // 1000)


def _shares(weight: int) -> int:
    return min(max(round(weight * _SHARES_PER_WEIGHT), _MIN_SHARES), _MAX_SHARES)
