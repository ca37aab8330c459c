"""ResourceLimiter on control groups: in each hierarchy <base>/<parent>/<job id>."""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..core.errors import JobNotFound, LimitsRejected, LimitsUnsupported
from ..core.job import JobId, parse_job_id
from ..core.limits import ResourceLimits
from ..core.ports import PlacementKind
from . import cpuset, io
from .controllers import CONTROLLERS, Controller, plan, with_devices
from .delegation import vacate
from .group import Group
from .hierarchy import Hierarchy, Home, Version, detect
from .private_mount import unmount
from .scope import CgroupScope
from .settings import enforce
from .unenforceable import REMEDY, Unenforceable, absent, unwritable

_log = logging.getLogger(__name__)

_EMPTY_IT = "move its processes into a group below it, or run the worker as root of the host"


class CgroupLimiter:
    """Makes one group per job in each hierarchy, and nothing outside of its own parent group.

    ``parent`` is the path of that group below every base; two limiters with the same one share
    their jobs. Raises LimitsUnsupported where no group can be made at all, ValueError for a
    parent that is not a relative path.
    """

    kind = PlacementKind.CGROUPS

    def __init__(self, parent: str, hierarchy: Hierarchy | None = None) -> None:
        self._parent = _checked(parent)
        self._hierarchy = detect() if hierarchy is None else hierarchy
        self.unified = self._writable(self._hierarchy.unified)
        self.homes = dict(self._find_homes())
        self._counting = False
        if not self.bases():
            raise self._nowhere()

    async def prepare(self, job: JobId, limits: ResourceLimits) -> CgroupScope:
        """Make the job's groups with the limits set; those that an earlier attempt left are replaced.

        Raises LimitsUnsupported, LimitsRejected, InvalidJobSpec for devices and CPUs that are not
        there, or QuotaExceeded if the kernel has no more groups to give, and leaves nothing behind then.
        """
        limits = await with_devices(limits)
        self._refuse_the_homeless(limits)
        scope = self._scope(job)
        if scope.exists():
            await self._clear(scope, job)
        try:
            for group in scope.groups:
                group.make()
            self._open_groups(job)
            self._admit(limits)
            enforce(plan(scope.controllers, limits))
        except BaseException:
            await self._scope(job).remove()
            raise
        return scope

    async def reopen(self, job: JobId) -> CgroupScope | None:
        """Return the scope of a job whose groups are there, whoever made them."""
        scope = self._scope(job)
        return scope if scope.exists() else None

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the groups of all other jobs below the own parent, except those with processes."""
        for job in self._jobs() - set(keep):
            scope = self._scope(job)
            if scope.populated():
                _log.warning(
                    "processes of the unknown job %s run in %s; left alone", job, scope.groups[0].path
                )
            else:
                await scope.remove()

    async def close(self) -> None:
        """Remove the parent groups that are empty, and a mount of our own that nobody needs then."""
        for base in self.bases():
            with suppress(OSError):  # jobs run in it, or another limiter was faster
                (base / self._parent).rmdir()
        if self.unified and not (self.unified / self._parent).exists():
            unmount(self.unified)

    def obstacle(self, controller: Controller) -> Unenforceable | None:
        """Tell why no group can have a controller here, None if it can; changes nothing."""
        limit = f"limits.{controller.name}"
        home = self._hierarchy.home(controller.name)
        if home is None:
            return absent(limit, controller.name, unified=self._hierarchy.has_unified_controllers)
        if controller.name not in self.homes:
            return unwritable(limit, home.base)
        return None

    def _admit(self, limits: ResourceLimits) -> None:
        """Have the kernel enable what the limits need; raise LimitsUnsupported for what cannot be."""
        self._refuse_the_homeless(limits)
        obstacles = self._enable_controllers()
        for controller in CONTROLLERS:
            if controller.asked(limits) and controller.name in obstacles:
                reason = f"cannot be enabled here: {obstacles[controller.name]}"
                raise Unenforceable(f"limits.{controller.name}", reason, _EMPTY_IT)

    def _refuse_the_homeless(self, limits: ResourceLimits) -> None:
        for controller in CONTROLLERS:
            if controller.asked(limits) and (obstacle := self.obstacle(controller)):
                raise obstacle

    def _nowhere(self) -> LimitsUnsupported:
        seen = [
            *([self._hierarchy.unified] if self._hierarchy.unified else []),
            *self._hierarchy.legacy.values(),
        ]
        if seen:
            return unwritable("no control group can be made here", seen[0])
        return Unenforceable(
            "no control group can be made here", "no cgroup file system is mounted", REMEDY
        )

    async def _clear(self, scope: CgroupScope, job: JobId) -> None:
        """Remove what a start that was cut short has left."""
        if scope.populated():
            raise LimitsRejected(f"there are processes in the control groups of job {job} already")
        await self._scope(job).remove()

    def _open_groups(self, job: JobId) -> None:
        """Do what v1 needs before a process can join a group, or is counted in it."""
        homes = {name: home for name, home in self.homes.items() if home.version is Version.V1}
        if cpuset.name in homes:
            cpuset.inherit(_path_down(homes[cpuset.name].base, self._parent / str(job)))
        if io.name in homes and not self._counting:
            io.count(Group(homes[io.name].base / self._parent, Version.V1))
            self._counting = True

    def _enable_controllers(self) -> dict[str, str]:
        """Let the controllers of v2 into the job's group, from the base down.

        Returns why not, for those that cannot be enabled: without them the job has no limits of
        that kind and no readings, which is in order as long as no such limit is asked for.
        """
        obstacles: dict[str, str] = {}
        if self.unified is None:
            return obstacles
        ours = self._hierarchy.unified_controllers & self.homes.keys()
        if ours and self._hierarchy.delegated and Group(self.unified, Version.V2).inhabited():
            vacate(self.unified)
        for directory in _path_down(self.unified, self._parent):
            obstacles |= Group(directory, Version.V2).enable(ours - obstacles.keys())
        return obstacles

    def _scope(self, job: JobId) -> CgroupScope:
        place = Path(self._parent, str(job))
        groups = {name: Group(home.base / place, home.version) for name, home in self.homes.items()}
        unified = Group(self.unified / place, Version.V2) if self.unified else None
        return CgroupScope(groups, unified, self._admit)

    def _jobs(self) -> set[JobId]:
        """Return the jobs that have a group in any hierarchy."""
        found: set[JobId] = set()
        for base in self.bases():
            with suppress(FileNotFoundError):
                found.update(_jobs_named(os.listdir(base / self._parent)))
        return found

    def bases(self) -> set[Path]:
        unified = {self.unified} if self.unified else set()
        return unified | {home.base for home in self.homes.values()}

    def _find_homes(self) -> Iterator[tuple[str, Home]]:
        for controller in CONTROLLERS:
            home = self._hierarchy.home(controller.name)
            if home is not None and self._writable(home.base):
                yield controller.name, home

    def _writable(self, base: Path | None) -> Path | None:
        """Return the base if groups can be made in it, or in a parent group made for this user."""
        places = (base / self._parent, base) if base else ()
        return base if any(os.access(place, os.W_OK | os.X_OK) for place in places) else None


def _checked(parent: str) -> PurePosixPath:
    parts = parent.split("/")
    if not parent or "\0" in parent or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(
            f"{parent!r} is not the name of a control group; use one like worker or worker.slice/jobs"
        )
    return PurePosixPath(parent)


def _path_down(base: Path, relative: PurePosixPath) -> list[Path]:
    """Return every directory from the base to the one below it, both included."""
    return [base, *(base / parent for parent in reversed(relative.parents[:-1])), base / relative]


def _jobs_named(names: Collection[str]) -> Iterator[JobId]:
    """Return the jobs among the names; all others are files of the kernel, or somebody else's."""
    for name in names:
        with suppress(JobNotFound):
            job = parse_job_id(name)
            if str(job) == name:
                yield job
