"""A memory limit below what a running job uses: v1 rejects it with EBUSY, v2 would kill the job (OOM).

With v2 the kernel is therefore asked to reclaim first, and the limit is rejected if too much is left. The
job may still grow between the check and the write, and is then OOM-killed.
docs/explanation/decisions/memory-limit-below-usage-is-rejected.md
"""

import errno
from contextlib import suppress

from ..core.errors import LimitBelowUsage
from ..core.model.limits import MemoryLimit
from . import kernel_files
from .cgroup import Cgroup
from .hierarchy.hierarchy import Version


def make_room(cgroup: Cgroup, limit: MemoryLimit) -> None:
    """Have the kernel reclaim in a cgroup of v2 what is above a new limit.

    Raises LimitBelowUsage if that is not enough. Blocks meanwhile.
    """
    if cgroup.version is not Version.V2 or limit.max is None:
        return
    before = cgroup.count("memory.max")
    if before is not None and limit.max >= before:
        return
    used = cgroup.count("memory.current") or 0
    if used <= limit.max:
        return
    with suppress(OSError):  # EAGAIN: less could be reclaimed; before Linux 5.19 there is no such file
        kernel_files.write(cgroup.file("memory.reclaim"), str(used - limit.max))
    left = cgroup.count("memory.current") or 0
    if not cgroup.has("memory.reclaim"):  # the kernel reclaims page cache when the limit is written
        stat = cgroup.table("memory.stat")
        left -= stat.get("active_file", 0) + stat.get("inactive_file", 0)
    if left > limit.max:
        raise _error("limits.memory.max", limit.max, left)


def is_busy(error: Exception) -> bool:
    """Whether the kernel rejected a limit of memory because more is in use."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EBUSY and "/memory." in str(cause.filename)


def below_usage(cgroup: Cgroup, limit: MemoryLimit) -> LimitBelowUsage:
    """Return the error for a limit that v1 rejected, with what the job uses now."""
    used = cgroup.count("memory.usage_in_bytes") or 0
    if limit.max is not None and (used > limit.max or limit.swap_max is None):
        return _error("limits.memory.max", limit.max, used)
    both = (limit.max or 0) + (limit.swap_max or 0)
    both_used = cgroup.count("memory.memsw.usage_in_bytes") or 0
    return _error("limits.memory.max and limits.memory.swap_max together", both, both_used)


def _error(field: str, limit: int, used: int) -> LimitBelowUsage:
    return LimitBelowUsage(
        f"{field}: {_size(limit)} is less than the job uses, {_size(used)}; the kernel can reclaim no more"
    )


def _size(count: int) -> str:
    return f"{count} bytes ({count / (1 << 20):.1f} MiB)"
