"""ResourceLimiter on control groups: in each hierarchy <base>/<parent>/<job id>."""

import logging
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from ..core.errors import LimitsRejected
from ..core.model.job import JobId
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement, PlacementKind
from .controllers.table import CONTROLLERS, plan, with_devices
from .hierarchy.hierarchy import Hierarchy, detect, groups_of
from .hierarchy.private_mount import unmount
from .scope import CgroupScope
from .settings import enforce
from .subtree import Subtree
from .survey import left_in, our_units, scope_at

_log = logging.getLogger(__name__)


class CgroupLimiter:
    """Makes one group per job in each hierarchy, and nothing outside of its own parent groups.

    ``parent`` is the path of those below every base; two limiters with the same one share their
    jobs. ``detect`` tells where the children of a process can be placed. Raises LimitsUnsupported
    where our own could not be placed at all, ValueError for a parent that is not a relative path.
    """

    kind = PlacementKind.CGROUPS

    def __init__(self, parent: str, detect: Callable[[int], Hierarchy] = detect) -> None:
        self._parent = parent
        self._detect = detect
        self._own = self._latest = Subtree(parent, detect(os.getpid()))
        self._latest_parent = os.getpid(), groups_of(os.getpid())
        self._places = self._own.places()

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> CgroupScope:
        """Make the job's groups with the limits set; those that an earlier attempt left are replaced.

        Raises LimitsUnsupported, LimitsRejected, InvalidJobSpec for devices and CPUs that are not
        there, SpawnerUnavailable if there is no process ``parent``, or QuotaExceeded if the kernel
        has no more groups to give, and leaves nothing behind then.
        """
        limits = await with_devices(limits)
        subtree = self._subtree(parent)
        subtree.refuse_the_homeless(limits)
        scope = subtree.scope(job)
        if scope.exists():
            await _clear(scope, job)
        try:
            for group in scope.groups:
                group.make()
            subtree.open_groups(job)
            subtree.admit(limits)
            asked = {each.name for each in CONTROLLERS if each.asked(limits)}  # the rest has no limits yet
            enforce(plan({name: scope.controllers[name] for name in asked}, limits))
        except BaseException:
            await subtree.scope(job).remove()
            raise
        return subtree.scope(job)  # it has more files now

    async def reopen(self, job: JobId, placement: Placement) -> CgroupScope | None:  # noqa: ARG002 - the port's signature
        """Return the scope of a job whose groups are there, whoever made them."""
        scope = scope_at(placement, self._own.hierarchy)
        if not scope.exists():
            return None
        self._places |= {Path(group.path).parent for group in scope.groups}
        return scope

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the groups of all other jobs below the own parent groups, except those with processes."""
        top = self._own.hierarchy.top
        units = our_units(top) if top else ()
        known = frozenset(keep)
        places = self._places | {unit / self._parent for unit in units}
        for job, placements in left_in(places, top).items():
            if job in known:
                continue
            scopes = [scope_at(placement, self._own.hierarchy) for placement in placements]
            inhabited = next((scope for scope in scopes if scope.populated()), None)
            if inhabited is not None:
                where = inhabited.groups[0].path
                _log.warning("processes of the unknown job %s run in %s; left alone", job, where)
                continue
            for scope in scopes:
                await scope.remove()

    async def close(self) -> None:
        """Remove the parent groups that are empty, and a mount of our own that nobody needs then."""
        for place in self._places:
            with suppress(OSError):  # jobs run in it, or another limiter was faster
                place.rmdir()
        unified = self._own.unified
        if unified and not (unified / self._parent).exists():
            unmount(unified)

    def _subtree(self, process: int) -> Subtree:
        """Return where the children of a process are placed; looked for again when it has moved."""
        parent = process, groups_of(process)
        if parent != self._latest_parent:
            self._latest, self._latest_parent = Subtree(self._parent, self._detect(process)), parent
            self._places |= self._latest.places()
        return self._latest


async def _clear(scope: CgroupScope, job: JobId) -> None:
    """Remove what a start that was cut short has left."""
    if scope.populated():
        raise LimitsRejected(f"there are processes in the control groups of job {job} already")
    await scope.remove()
