"""The memory controller: RAM, and swap beyond it.

https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from dataclasses import replace

from ..core.errors import LimitsUnsupported
from ..core.limits import MemoryLimit, ResourceLimits, ResourceUsage
from .group import Group
from .hierarchy import Version

name = "memory"

_USE_V2 = "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)"
_ACCOUNT_SWAP = "boot with swapaccount=1, or leave the limit away"
_LARGEST = (1 << 63) - 1


def asked(limits: ResourceLimits) -> bool:
    """Tell whether max, high or swap_max is to be set."""
    return limits.memory != MemoryLimit()


def apply(group: Group, limits: ResourceLimits) -> None:
    """Set the limits; raise LimitsUnsupported or LimitsRejected."""
    if group.version is Version.V2:
        _apply_v2(group, limits.memory)
    else:
        _apply_v1(group, limits.memory)


def usage(group: Group, so_far: ResourceUsage) -> ResourceUsage:
    """Add the memory in use, page cache included, and the most there ever was (v2: Linux 5.19)."""
    if group.version is Version.V2:
        current, peak = "memory.current", "memory.peak"
    else:
        current, peak = "memory.usage_in_bytes", "memory.max_usage_in_bytes"
    return replace(so_far, memory_current=group.count(current), memory_peak=group.count(peak))


def oom_events(group: Group) -> str | None:
    """Return the path of the file that counts OOM kills, None if the group has none."""
    file = "memory.events" if group.version is Version.V2 else "memory.oom_control"
    return str(group.path / file) if group.has(file) else None


def _apply_v2(group: Group, limit: MemoryLimit) -> None:
    if limit.swap_max is not None:
        _require_swap_accounting(group, "memory.swap.max")
        group.set("memory.swap.max", limit.swap_max)
    if limit.high is not None:
        group.set("memory.high", limit.high)
    if limit.max is not None:
        group.set("memory.max", limit.max)


def _apply_v1(group: Group, limit: MemoryLimit) -> None:
    if limit.high is not None:
        raise LimitsUnsupported(
            f"limits.memory.high: cgroup v1 cannot slow a job down; use max, or {_USE_V2}"
        )
    if limit.swap_max is not None:
        # Also where there is no swap now: some may be switched on while the job runs.
        _require_swap_accounting(group, "memory.memsw.limit_in_bytes")
    if limit.max is None:
        raise LimitsUnsupported(
            "limits.memory.swap_max: cgroup v1 bounds swap only together with memory; "
            f"set limits.memory.max too, or {_USE_V2}"
        )
    if limit.swap_max is None:
        group.set("memory.limit_in_bytes", limit.max)
    else:
        _set_both(group, limit.max, min(limit.max + limit.swap_max, _LARGEST))


def _set_both(group: Group, memory: int, memory_and_swap: int) -> None:
    """Set both limits of v1, neither of which may pass the other on the way (EINVAL)."""
    steps = [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory_and_swap)]
    if memory_and_swap > (group.count("memory.memsw.limit_in_bytes") or 0):
        steps.reverse()
    for file, value in steps:
        group.set(file, value)


def _require_swap_accounting(group: Group, file: str) -> None:
    if not group.has(file):
        raise LimitsUnsupported(
            f"limits.memory.swap_max: this kernel does not account swap; {_ACCOUNT_SWAP}"
        )
