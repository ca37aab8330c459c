"""The cpu controller: a quota in every period, and a weight under contention.

https://docs.kernel.org/scheduler/sched-bwc.html
"""

from dataclasses import replace

from ..core.limits import CpuLimit, ResourceLimits, ResourceUsage
from .group import Group
from .hierarchy import Version

name = "cpu"

PERIOD_USEC = 100_000
_SHORTEST_QUOTA_USEC = 1000  # min_cfs_quota_period in kernel/sched/core.c
_SHARES_PER_WEIGHT = 1024 / 100  # both defaults, of cpu.shares and of cpu.weight
_LEAST_SHARES, _MOST_SHARES = 2, 1 << 18  # MIN_SHARES and MAX_SHARES in kernel/sched/sched.h


def asked(limits: ResourceLimits) -> bool:
    """Tell whether quota or weight is to be set."""
    return limits.cpu != CpuLimit()


def apply(group: Group, limits: ResourceLimits) -> None:
    """Set quota and weight; raise LimitsRejected if the kernel refuses."""
    if limits.cpu.quota is not None:
        quota = max(_SHORTEST_QUOTA_USEC, round(limits.cpu.quota * PERIOD_USEC))
        _set_quota(group, quota)
    if limits.cpu.weight is not None:
        _set_weight(group, limits.cpu.weight)


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add how long the group was kept from running by its quota."""
    stat = group.table("cpu.stat")
    if group.version is Version.V2:
        return replace(so_far, throttled_usec=stat.get("throttled_usec"))
    throttled = stat.get("throttled_time")
    return replace(so_far, throttled_usec=None if throttled is None else throttled // 1000)


def _set_quota(group: Group, quota: int) -> None:
    if group.version is Version.V2:
        group.set("cpu.max", f"{quota} {PERIOD_USEC}")
        return
    group.set("cpu.cfs_period_us", PERIOD_USEC)
    group.set("cpu.cfs_quota_us", quota)


def _set_weight(group: Group, weight: int) -> None:
    if group.version is Version.V2:
        group.set("cpu.weight", weight)
        return
    shares = round(weight * _SHARES_PER_WEIGHT)
    group.set("cpu.shares", min(max(shares, _LEAST_SHARES), _MOST_SHARES))
