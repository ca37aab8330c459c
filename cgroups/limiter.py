"""The ResourceLimiter on cgroups: <base>/<parent>/<job id> in the hierarchies that a job needs."""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from ..core.errors import LimitsRejected
from ..core.model.job import JobId
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement, PlacementKind
from .accounting import Accounting
from .block_devices import with_devices
from .cgroup import Cgroup
from .controllers import cpuset, io
from .controllers.all_controllers import all_settings
from .hierarchy.detection import detect, own_cgroups_text
from .hierarchy.hierarchy import Hierarchy, Version
from .hierarchy.private_mount import unmount
from .scope import CgroupScope
from .selection import needed, requested
from .settings import write_new
from .subtree import Subtree
from .survey import left_in, scope_at, worker_systemd_scopes

_log = logging.getLogger(__name__)


class CgroupLimiter:
    """Creates cgroups for each job, and nothing outside of its own parent cgroups.

    There is one in v2. In v1 there is one for each controller that a limit of the job or the accounting
    needs.

    ``parent`` is the path of those below every base; two limiters with the same parent share their
    jobs. ``detect`` returns where the children of a process can be placed. Raises LimitsUnsupported
    where the children of this process cannot be placed at all, ValueError for a parent that is not a
    relative path.
    """

    kind = PlacementKind.CGROUPS

    def __init__(
        self,
        parent: str,
        detect: Callable[[int], Hierarchy] = detect,
        accounting: Accounting = Accounting.FULL,
    ) -> None:
        self._parent = parent
        self._accounting = accounting
        self._detect = detect
        self._own = self._latest = Subtree(parent, detect(os.getpid()))
        self._latest_process = os.getpid(), own_cgroups_text(os.getpid())
        self._parents = self._own.parents()

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> CgroupScope:
        """Create the job's cgroups with the limits set; replaces those left by an earlier attempt.

        Raises LimitsUnsupported, LimitsRejected, InvalidJobSpec for devices and CPUs that do not
        exist, SpawnerUnavailable if there is no process ``parent``, or QuotaExceeded if the kernel's
        limit on the number of cgroups is reached; leaves nothing behind then.
        """
        limits = await with_devices(limits)
        subtree = self._subtree(parent)
        subtree.refuse_unavailable(limits)
        tracked = subtree.unified is not None
        names = needed(limits, self._accounting, subtree.roots, tracked=tracked)
        cgroups = subtree.cgroups(job, names)
        try:
            _create(cgroups)
        except FileExistsError:
            await _clear(subtree.scope(job, subtree.cgroups(job, subtree.roots)), job)
            _create(cgroups)
        try:
            self._initialize(subtree, cgroups, limits)
        except BaseException:
            await subtree.scope(job, cgroups).remove()
            raise
        # Only now: enabled controllers have added files.
        return subtree.scope(job, cgroups, pressure=self._pressure)

    def _initialize(self, subtree: Subtree, cgroups: Mapping[str, Cgroup], limits: ResourceLimits) -> None:
        """Set the limits of new cgroups, and what v1 needs before a process can join."""
        if cpuset.name in cgroups and cgroups[cpuset.name].version is Version.V1:
            cpuset.inherit(cgroups[cpuset.name])
        if io.name in cgroups:
            subtree.count_io()
        subtree.admit(limits)
        # The files of the other controllers have no limit yet.
        write_new(all_settings({name: cgroups[name] for name in requested(limits)}, limits))

    async def reopen(self, job: JobId, placement: Placement) -> CgroupScope | None:  # noqa: ARG002 - the port's signature
        """Return the scope of a job whose cgroups exist, also those of another limiter."""
        scope = scope_at(placement, self._own.hierarchy, pressure=self._pressure)
        if not scope.exists():
            return None
        self._parents |= {Path(cgroup.path).parent for cgroup in scope.cgroups}
        return scope

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the cgroups of all other jobs below our parent cgroups, except those with processes."""
        top = self._own.hierarchy.top
        systemd_scopes = worker_systemd_scopes(top) if top else ()
        known = frozenset(keep)
        parents = self._parents | {systemd_scope / self._parent for systemd_scope in systemd_scopes}
        for job, placements in left_in(parents, top).items():
            if job in known:
                continue
            scopes = [scope_at(placement, self._own.hierarchy) for placement in placements]
            populated = next((scope for scope in scopes if scope.populated()), None)
            if populated is not None:
                path = populated.cgroups[0].path
                _log.warning("unknown job %s has processes in %s; its cgroups are not removed", job, path)
                continue
            for scope in scopes:
                await scope.remove()

    async def close(self) -> None:
        """Remove the parent cgroups that are empty, and then a private mount that is unused."""
        for parent in self._parents:
            with suppress(OSError):  # it has jobs, or another limiter has removed it
                parent.rmdir()
        unified = self._own.unified
        if unified and not (unified / self._parent).exists():
            unmount(unified)

    @property
    def _pressure(self) -> bool:
        """Whether the accounting includes the pressure."""
        return self._accounting is Accounting.FULL

    def _subtree(self, process: int) -> Subtree:
        """Return where the children of a process are placed; detects it again after the process moved."""
        latest = process, own_cgroups_text(process)
        if latest != self._latest_process:
            self._latest, self._latest_process = Subtree(self._parent, self._detect(process)), latest
            self._parents |= self._latest.parents()
        return self._latest


def _create(cgroups: Mapping[str, Cgroup]) -> None:
    """Create all cgroups, or none: FileExistsError if one exists."""
    made: list[Cgroup] = []
    try:
        for cgroup in dict.fromkeys(cgroups.values()):
            cgroup.create()
            made.append(cgroup)
    except BaseException:
        for cgroup in made:
            cgroup.discard()
        raise


async def _clear(scope: CgroupScope, job: JobId) -> None:
    """Remove the cgroups left by an interrupted start."""
    if scope.populated():
        raise LimitsRejected(f"the control groups of job {job} already contain processes")
    await scope.remove()
