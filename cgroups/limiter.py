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
from .controllers import CONTROLLERS, Controller
from .group import Group
from .hierarchy import Hierarchy, Home, Version, detect
from .scope import CgroupScope

_log = logging.getLogger(__name__)

REMEDY = (
    "run the worker as root, or in a group that is delegated to its user "
    "(systemd-run --user --scope -p Delegate=yes, or Delegate=yes in its unit)"
)


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
        self._unified = self._writable(self._hierarchy.unified)
        self._homes = dict(self._find_homes())
        if not self._bases():
            raise LimitsUnsupported(f"no control group can be made by uid {os.geteuid()} here; {REMEDY}")

    async def prepare(self, job: JobId, limits: ResourceLimits) -> CgroupScope:
        """Make the job's groups with the limits set; those that an earlier attempt left are replaced.

        Raises LimitsUnsupported, LimitsRejected, or QuotaExceeded if the kernel has no more groups to
        give, and leaves nothing behind then.
        """
        self._refuse_what_no_group_can_do(limits)
        scope = self._scope(job)
        if scope.exists():
            await self._clear(scope, job)
        try:
            for group in scope.groups:
                group.make()
            self._apply(limits, scope)
        except Exception:
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
        """Remove the parent groups that are empty."""
        for base in self._bases():
            with suppress(OSError):  # jobs run in it, or another limiter was faster
                (base / self._parent).rmdir()

    def _refuse_what_no_group_can_do(self, limits: ResourceLimits) -> None:
        if limits.io:
            raise LimitsUnsupported("limits.io: not enforced by this version of the worker; leave it away")
        if limits.cpuset is not None:
            raise LimitsUnsupported(
                "limits.cpuset: not enforced by this version of the worker; leave it away"
            )
        for controller in CONTROLLERS:
            if controller.asked(limits) and controller.name not in self._homes:
                raise LimitsUnsupported(f"limits.{controller.name}: {self._why_homeless(controller)}")

    def _why_homeless(self, controller: Controller) -> str:
        home = self._hierarchy.home(controller.name)
        if home is None:
            return (
                f"there is no {controller.name} controller here; it may be disabled in the kernel "
                "(cgroup_disable=), not mounted, or not delegated to this group"
            )
        return f"{home.base} cannot be written by uid {os.geteuid()}; {REMEDY}"

    async def _clear(self, scope: CgroupScope, job: JobId) -> None:
        """Remove what a start that was cut short has left."""
        if scope.populated():
            raise LimitsRejected(f"there are processes in the control groups of job {job} already")
        await self._scope(job).remove()

    def _apply(self, limits: ResourceLimits, scope: CgroupScope) -> None:
        obstacles = self._enable_controllers()
        for controller in CONTROLLERS:
            if not controller.asked(limits):
                continue
            if controller.name in obstacles:
                reason = obstacles[controller.name]
                raise LimitsUnsupported(f"limits.{controller.name}: cannot be enabled here: {reason}")
            controller.apply(scope.controllers[controller.name], limits)

    def _enable_controllers(self) -> dict[str, str]:
        """Let the controllers of v2 into the job's group, from the base down.

        Returns why not, for those that cannot be enabled: without them the job has no limits of
        that kind and no readings, which is in order as long as no such limit is asked for.
        """
        obstacles: dict[str, str] = {}
        if self._unified is not None:
            ours = self._hierarchy.unified_controllers & self._homes.keys()
            for directory in _path_down(self._unified, self._parent):
                obstacles |= Group(directory, Version.V2).enable(ours - obstacles.keys())
        return obstacles

    def _scope(self, job: JobId) -> CgroupScope:
        place = Path(self._parent, str(job))
        groups = {name: Group(home.base / place, home.version) for name, home in self._homes.items()}
        unified = Group(self._unified / place, Version.V2) if self._unified else None
        return CgroupScope(groups, unified)

    def _jobs(self) -> set[JobId]:
        """Return the jobs that have a group in any hierarchy."""
        found: set[JobId] = set()
        for base in self._bases():
            with suppress(FileNotFoundError):
                found.update(_jobs_named(os.listdir(base / self._parent)))
        return found

    def _bases(self) -> set[Path]:
        unified = {self._unified} if self._unified else set()
        return unified | {home.base for home in self._homes.values()}

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
