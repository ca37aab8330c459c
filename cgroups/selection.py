"""Which cgroups of v1 a job gets: each costs the kernel a directory with its files. In v2 there is one."""

from collections.abc import Collection
from functools import lru_cache

from ..core.model.limits import ResourceLimits
from .accounting import Accounting
from .controllers import cpuacct, io, memory, pids
from .controllers.all_controllers import CONTROLLERS
from .hierarchy.hierarchy import FREEZER

_COUNTED = frozenset({cpuacct.name, io.name})


@lru_cache
def requested(limits: ResourceLimits) -> frozenset[str]:
    """Return the controllers of the limits."""
    return frozenset(each.name for each in CONTROLLERS if each.requested(limits))


def needed(
    limits: ResourceLimits, accounting: Accounting, available: Collection[str], *, tracked: bool
) -> set[str]:
    """Return the controllers of v1, of those available, that a job needs a cgroup for.

    Always memory: it counts OOM kills. Always the freezer, which is available only without v2. ``tracked``:
    a cgroup of v2 tracks the job's processes. Without that cgroup, one of v1 has to track them.
    """
    names = {memory.name, FREEZER, *requested(limits)}
    if accounting is Accounting.FULL:
        names |= _COUNTED
        if not tracked:  # v2 lists the threads of a job
            names.add(pids.name)
    names &= set(available)
    if not tracked and not names:
        names = {next(iter(available))}
    return names
