"""The memory controller: RAM and swap.

https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ...core.model.limits import MemoryLimit, ResourceLimits, ResourceUsage
from .. import kernel_files
from ..cgroup import Cgroup
from ..hierarchy.hierarchy import Version
from ..settings import Setting
from ..unenforceable import Unenforceable

name = "memory"

_USE_V2 = "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1)"
_ACCOUNT_SWAP = (
    "boot with swapaccount=1, or omit the limit; "
    "where the server has a maximum of memory, set the maximum of swap to unlimited"
)
_MEMORY, _MEMORY_AND_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_LARGEST = (1 << 63) - 1
_LARGE_CACHE = 64 << 20
_STAT = {
    Version.V1: ("total_pgfault", "total_cache", "total_rss"),
    Version.V2: ("pgfault", "file", "anon"),
}


def requested(limits: ResourceLimits) -> bool:
    """Whether max, high or swap_max is requested."""
    return limits.memory != MemoryLimit()


def settings(cgroup: Cgroup, limits: ResourceLimits) -> Iterator[Setting]:
    """Return the settings of the limits; raise Unenforceable for those that the kernel does not have."""
    limit = limits.memory
    if limit.swap_max is not None:
        # Also where there is no swap now: it may be enabled while the job runs.
        _require_swap_accounting(cgroup)
    return _settings_v2(cgroup, limit) if cgroup.version is Version.V2 else _settings_v1(cgroup, limit)


def usage(cgroup: Cgroup, so_far: ResourceUsage) -> ResourceUsage:
    """Add the memory in use, including page cache, and its peak (v2: Linux 5.19)."""
    if cgroup.version is Version.V2:
        current, peak = "memory.current", "memory.peak"
    else:
        current, peak = "memory.usage_in_bytes", "memory.max_usage_in_bytes"
    return replace(so_far, memory_current=cgroup.count(current), memory_peak=cgroup.count(peak))


def oom_events(cgroup: Cgroup) -> str | None:
    """Return the path of the file that counts OOM kills, None if the cgroup has none."""
    file = "memory.events" if cgroup.version is Version.V2 else "memory.oom_control"
    return cgroup.file(file) if cgroup.has(file) else None


async def drop_cache(cgroup: Cgroup) -> None:
    """Make the kernel drop the page cache of a cgroup without processes.

    Every remaining page would keep the cgroup allocated, invisible after rmdir
    (``nr_dying_descendants``), which costs more than the page. A large cache is kept: it may still be
    useful, and since RAM is finite there are few of them. Files in a tmpfs stay charged, and their
    cgroup stays allocated.
    """
    if _is_empty(cgroup):
        return
    current = cgroup.count("memory.current" if cgroup.version is Version.V2 else "memory.usage_in_bytes")
    if current is None or not 0 < current <= _LARGE_CACHE:
        return
    if cgroup.version is Version.V2:
        request = ("memory.reclaim", str(current))  # Linux 5.19
    else:
        request = ("memory.force_empty", "0")
    with suppress(OSError):  # the file does not exist, or not everything could be reclaimed
        await to_thread(kernel_files.write, cgroup.file(request[0]), request[1])


def _is_empty(cgroup: Cgroup) -> bool:
    """Whether a cgroup without processes certainly has no page: most have none.

    Dropping the cache takes a millisecond even then. The kernel's own memory charged to a cgroup, and
    the reserves of each CPU, count as usage but do not keep a cgroup allocated.
    """
    stat = cgroup.text("memory.stat")
    faults, *pages = _STAT[cgroup.version]
    # The kernel updates these sums only occasionally (every 2 s, or after many changes on each CPU). A
    # process that causes faults has pages until it exits: if the sums show faults but no pages, they
    # were updated after the last process had exited.
    number = kernel_files.number_after
    return bool(number(stat, faults)) and not any(number(stat, kind) for kind in pages)


def _settings_v2(cgroup: Cgroup, limit: MemoryLimit) -> Iterator[Setting]:
    yield Setting(cgroup, "memory.swap.max", limit.swap_max, "max")
    yield Setting(cgroup, "memory.high", limit.high, "max")
    yield Setting(cgroup, "memory.max", limit.max, "max")


def _settings_v1(cgroup: Cgroup, limit: MemoryLimit) -> Iterator[Setting]:
    if limit.high is not None:
        raise Unenforceable(
            "limits.memory.high",
            "cgroup v1 cannot throttle a job (its soft limit applies only when the whole host is short)",
            f"use limits.memory.max, or {_USE_V2}",
        )
    if limit.swap_max is not None and limit.max is None:
        raise Unenforceable(
            "limits.memory.swap_max",
            "cgroup v1 limits swap only together with memory",
            f"set limits.memory.max too, make limits.memory.swap_max unlimited, or {_USE_V2}",
        )
    both = None
    if limit.max is not None and limit.swap_max is not None:
        both = min(limit.max + limit.swap_max, _LARGEST)
    settings = [Setting(cgroup, _MEMORY, limit.max, "-1"), Setting(cgroup, _MEMORY_AND_SWAP, both, "-1")]
    # Memory may never exceed the sum (EINVAL): the sum is written first when it is raised.
    if both is None or both > (cgroup.count(_MEMORY_AND_SWAP) or 0):
        settings.reverse()
    return iter(settings)


def _require_swap_accounting(cgroup: Cgroup) -> None:
    file = "memory.swap.max" if cgroup.version is Version.V2 else _MEMORY_AND_SWAP
    if not cgroup.has(file):
        raise Unenforceable("limits.memory.swap_max", "this kernel does not account swap", _ACCOUNT_SWAP)
