"""The memory controller: RAM, and swap beyond it.

https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ...core.model.limits import MemoryLimit, ResourceLimits, ResourceUsage
from .. import kernel_files
from ..group import Group
from ..hierarchy.hierarchy import Version
from ..settings import Setting
from ..unenforceable import Unenforceable

name = "memory"

_USE_V2 = "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)"
_ACCOUNT_SWAP = "boot with swapaccount=1, or leave the limit away"
_MEMORY, _MEMORY_AND_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_LARGEST = (1 << 63) - 1
_LARGE_CACHE = 64 << 20
_STAT = {
    Version.V1: ("total_pgfault", "total_cache", "total_rss"),
    Version.V2: ("pgfault", "file", "anon"),
}


def asked(limits: ResourceLimits) -> bool:
    """Tell whether max, high or swap_max is to be set."""
    return limits.memory != MemoryLimit()


def settings(group: Group, limits: ResourceLimits) -> Iterator[Setting]:
    """Plan the limits; raise Unenforceable for what the kernel does not have."""
    limit = limits.memory
    if limit.swap_max is not None:
        # Also where there is no swap now: some may be switched on while the job runs.
        _require_swap_accounting(group)
    return _settings_v2(group, limit) if group.version is Version.V2 else _settings_v1(group, limit)


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
    return group.file(file) if group.has(file) else None


async def release(group: Group) -> None:
    """Have the kernel drop what a group without processes has in its page cache.

    Every page would keep the group alive, invisible after rmdir (``nr_dying_descendants``) and
    costing more than the page. A large cache is left alone: it may be wanted yet, and since RAM is
    finite there are few of them. Files in a tmpfs stay charged, and their group with them.
    """
    if _is_empty(group):
        return
    current = group.count("memory.current" if group.version is Version.V2 else "memory.usage_in_bytes")
    if current is None or not 0 < current <= _LARGE_CACHE:
        return
    if group.version is Version.V2:
        request = ("memory.reclaim", str(current))  # Linux 5.19
    else:
        request = ("memory.force_empty", "0")
    with suppress(OSError):  # not there, or not all could be had back
        await to_thread(kernel_files.write, group.file(request[0]), request[1])


def _is_empty(group: Group) -> bool:
    """Tell whether a group without processes has no page, for certain: most have none.

    To have it dropped takes the kernel a millisecond even then. What it uses for itself on behalf of a
    group, and what each CPU has in reserve, counts as in use, but keeps no group alive.
    """
    stat = group.table("memory.stat")
    faults, *pages = _STAT[group.version]
    # The kernel sums up only now and then (2 s, or after many changes for each CPU). Who makes faults has
    # pages until its end: faults and no pages were summed up after the last process had ended.
    return bool(stat.get(faults)) and not any(stat.get(kind) for kind in pages)


def _settings_v2(group: Group, limit: MemoryLimit) -> Iterator[Setting]:
    yield Setting(group, "memory.swap.max", limit.swap_max, "max")
    yield Setting(group, "memory.high", limit.high, "max")
    yield Setting(group, "memory.max", limit.max, "max")


def _settings_v1(group: Group, limit: MemoryLimit) -> Iterator[Setting]:
    if limit.high is not None:
        raise Unenforceable(
            "limits.memory.high",
            "cgroup v1 cannot slow a job down (its soft limit acts only when the whole host is short)",
            f"use limits.memory.max, or {_USE_V2}",
        )
    if limit.swap_max is not None and limit.max is None:
        raise Unenforceable(
            "limits.memory.swap_max",
            "cgroup v1 bounds swap only together with memory",
            f"set limits.memory.max too, or {_USE_V2}",
        )
    both = None
    if limit.max is not None and limit.swap_max is not None:
        both = min(limit.max + limit.swap_max, _LARGEST)
    settings = [Setting(group, _MEMORY, limit.max, "-1"), Setting(group, _MEMORY_AND_SWAP, both, "-1")]
    # Neither may pass the other on the way (EINVAL): the sum goes first when it is raised.
    if both is None or both > (group.count(_MEMORY_AND_SWAP) or 0):
        settings.reverse()
    return iter(settings)


def _require_swap_accounting(group: Group) -> None:
    file = "memory.swap.max" if group.version is Version.V2 else _MEMORY_AND_SWAP
    if not group.has(file):
        raise Unenforceable("limits.memory.swap_max", "this kernel does not account swap", _ACCOUNT_SWAP)
