"""The part of each hierarchy where the children of one process can be placed."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..core.errors import LimitsUnsupported
from ..core.model.job import JobId
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement
from .cgroup import Cgroup
from .controllers import io, memory
from .controllers.all_controllers import CONTROLLERS
from .controllers.controller import Controller
from .hierarchy.delegation import vacate
from .hierarchy.hierarchy import FREEZER, ControllerRoot, Hierarchy, Version
from .scope import CgroupScope
from .selection import requested
from .unenforceable import (
    REMEDY,
    Unenforceable,
    absent,
    unwritable,
)

_EMPTY_IT = "move its processes into a group below it, or run the worker as root of the host"


class Subtree:
    """In each hierarchy the cgroups <base>/<parent>/<job id>.

    ``unified`` is the base in v2, ``roots`` the bases by controller where cgroups can be created.
    Raises LimitsUnsupported where none can be created at all, ValueError for a parent that is not a
    relative path.
    """

    def __init__(self, parent: str, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._parent = _checked(parent)
        self.unified = self._writable(hierarchy.unified)
        self.roots = dict(self._find_roots()) | self._freezer_root()
        self._directories = {name: f"{root.base}/{self._parent}" for name, root in self.roots.items()}
        self._unified = f"{self.unified}/{self._parent}" if self.unified else None
        self._counts_io = False
        if not self.bases():
            raise self._no_base()

    def bases(self) -> set[Path]:
        """Return the cgroups below which all others are created."""
        unified = {self.unified} if self.unified else set()
        return unified | {root.base for root in self.roots.values()}

    def parents(self) -> set[Path]:
        """Return the cgroups that contain those of the jobs."""
        return {base / self._parent for base in self.bases()}

    def cgroups(self, job: JobId, names: Collection[str]) -> dict[str, Cgroup]:
        """Return the cgroups of a job by controller: those of v1 for these names, and that of v2.

        They need not exist. Several controllers may share a cgroup: all of v2, and joined ones of v1.
        """
        return {
            name: Cgroup(f"{self._directories[name]}/{job}", root.version)
            for name, root in self.roots.items()
            if name in names or root.version is Version.V2
        }

    def scope(self, job: JobId, cgroups: Mapping[str, Cgroup], *, pressure: bool = True) -> CgroupScope:
        """Return the scope of a job with these cgroups; ``pressure`` is part of its usage."""
        legacy = dict.fromkeys(each.path for each in cgroups.values() if each.version is Version.V1)
        accountant = cgroups.get(memory.name)
        placement = Placement(
            unified=f"{self._unified}/{job}" if self._unified else None,
            legacy=tuple(legacy),
            oom_events=memory.oom_events(accountant) if accountant else None,
        )
        return CgroupScope(
            placement,
            lambda: cgroups,
            self.admit,
            lambda name: self.cgroups(job, {name})[name],
            pressure=pressure,
        )

    def obstacle(self, controller: Controller) -> Unenforceable | None:
        """Return why no cgroup can have a controller here, None if it can; changes nothing."""
        if controller.name in self.roots:
            return None
        limit = f"limits.{controller.name}"
        root = self.hierarchy.root(controller.name)
        if root is None:
            return absent(limit, controller.name, unified=self.hierarchy.has_unified_controllers)
        return unwritable(limit, root.base)

    def refuse_unavailable(self, limits: ResourceLimits) -> None:
        """Raise LimitsUnsupported for a limit whose controller is not available; changes nothing."""
        if requested(limits) <= self.roots.keys():
            return
        for controller in CONTROLLERS:
            if controller.requested(limits) and (obstacle := self.obstacle(controller)):
                raise obstacle

    def admit(self, limits: ResourceLimits) -> None:
        """Enable the controllers of the limits; raise LimitsUnsupported for those that cannot be."""
        self.refuse_unavailable(limits)
        obstacles = self._enable_controllers()
        for name in obstacles.keys() & requested(limits):
            raise Unenforceable(f"limits.{name}", f"cannot be enabled here: {obstacles[name]}", _EMPTY_IT)

    def count_io(self) -> None:
        """Make the kernel count the I/O of jobs, which v1 does not do by itself. Idempotent."""
        if not self._counts_io and self.roots[io.name].version is Version.V1:
            io.enable_accounting(Cgroup(self._directories[io.name], Version.V1))
        self._counts_io = True

    def _enable_controllers(self) -> dict[str, str]:
        """Enable the controllers of v2 for the job's cgroup, from the base down.

        Returns the reason for each that cannot be enabled: without it the job has no limits of that
        kind and no readings, which is acceptable if no such limit is requested.
        """
        obstacles: dict[str, str] = {}
        ours = self.hierarchy.unified_controllers & self.roots.keys()
        if self.unified is None or not ours:
            return obstacles
        if self.hierarchy.delegated and Cgroup(str(self.unified), Version.V2).blocks_controllers():
            vacate(self.unified)
        for directory in _path_down(self.unified, self._parent):
            obstacles |= Cgroup(str(directory), Version.V2).enable(ours - obstacles.keys())
        return obstacles

    def _no_base(self) -> LimitsUnsupported:
        seen = [
            *([self.hierarchy.unified] if self.hierarchy.unified else []),
            *self.hierarchy.legacy.values(),
        ]
        if seen:
            return unwritable("cannot create control groups", seen[0])
        return Unenforceable("cannot create control groups", "no cgroup file system is mounted", REMEDY)

    def _find_roots(self) -> Iterator[tuple[str, ControllerRoot]]:
        for controller in CONTROLLERS:
            root = self.hierarchy.root(controller.name)
            if root is not None and self._writable(root.base):
                yield controller.name, root

    def _freezer_root(self) -> dict[str, ControllerRoot]:
        """Return where cgroups with the freezer of v1 are created: a cgroup of v2 has a freezer itself."""
        root = self.hierarchy.root(FREEZER)
        if self.unified is not None or root is None or not self._writable(root.base):
            return {}
        return {FREEZER: root}

    def _writable(self, base: Path | None) -> Path | None:
        """Return the base if cgroups can be created in it, or in a parent created for this user."""
        candidates = (base / self._parent, base) if base else ()
        return base if any(os.access(each, os.W_OK | os.X_OK) for each in candidates) else None


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
