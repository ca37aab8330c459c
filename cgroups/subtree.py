"""The part of each hierarchy where the children of one process can be placed."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..core.errors import LimitsUnsupported
from ..core.model.job import JobId
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement
from .controllers import cpuset, io, memory
from .controllers.table import CONTROLLERS, Controller
from .group import Group
from .hierarchy.delegation import vacate
from .hierarchy.hierarchy import Hierarchy, Home, Version
from .scope import CgroupScope
from .unenforceable import (
    REMEDY,
    Unenforceable,
    absent,
    unwritable,
)

_EMPTY_IT = "move its processes into a group below it, or run the worker as root of the host"


class Subtree:
    """In each hierarchy the groups <base>/<parent>/<job id>.

    ``unified`` is the base in v2, ``homes`` those by controller, wherever groups can be made.
    Raises LimitsUnsupported where none can be made at all, ValueError for a parent that is not a
    relative path.
    """

    def __init__(self, parent: str, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self._parent = _checked(parent)
        self.unified = self._writable(hierarchy.unified)
        self.homes = dict(self._find_homes())
        self._counting = False
        if not self.bases():
            raise self._nowhere()

    def bases(self) -> set[Path]:
        """Return the groups below which all others are made."""
        unified = {self.unified} if self.unified else set()
        return unified | {home.base for home in self.homes.values()}

    def places(self) -> set[Path]:
        """Return the groups that hold those of the jobs."""
        return {base / self._parent for base in self.bases()}

    def scope(self, job: JobId) -> CgroupScope:
        """Return the scope of a job, whether its groups are there or not."""
        place = f"{self._parent}/{job}"
        groups = {name: Group(f"{home.base}/{place}", home.version) for name, home in self.homes.items()}
        # Several controllers may share a group: all of v2, and joined ones of v1.
        legacy = dict.fromkeys(each.path for each in groups.values() if each.version is Version.V1)
        accountant = groups.get(memory.name)
        placement = Placement(
            unified=f"{self.unified}/{place}" if self.unified else None,
            legacy=tuple(legacy),
            oom_events=memory.oom_events(accountant) if accountant else None,
        )
        return CgroupScope(placement, lambda: groups, self.admit)

    def obstacle(self, controller: Controller) -> Unenforceable | None:
        """Tell why no group can have a controller here, None if it can; changes nothing."""
        limit = f"limits.{controller.name}"
        home = self.hierarchy.home(controller.name)
        if home is None:
            return absent(limit, controller.name, unified=self.hierarchy.has_unified_controllers)
        if controller.name not in self.homes:
            return unwritable(limit, home.base)
        return None

    def refuse_the_homeless(self, limits: ResourceLimits) -> None:
        """Raise LimitsUnsupported for a limit whose controller is not to be had."""
        for controller in CONTROLLERS:
            if controller.asked(limits) and (obstacle := self.obstacle(controller)):
                raise obstacle

    def admit(self, limits: ResourceLimits) -> None:
        """Have the kernel enable what the limits need; raise LimitsUnsupported for what cannot be."""
        self.refuse_the_homeless(limits)
        obstacles = self._enable_controllers()
        for controller in CONTROLLERS:
            if controller.asked(limits) and controller.name in obstacles:
                reason = f"cannot be enabled here: {obstacles[controller.name]}"
                raise Unenforceable(f"limits.{controller.name}", reason, _EMPTY_IT)

    def open_groups(self, job: JobId) -> None:
        """Do what v1 needs before a process can join a job's groups, or is counted in them."""
        homes = {name: home for name, home in self.homes.items() if home.version is Version.V1}
        if cpuset.name in homes:
            cpuset.inherit(_path_down(homes[cpuset.name].base, self._parent / str(job)))
        if io.name in homes and not self._counting:
            io.count(Group(f"{homes[io.name].base}/{self._parent}", Version.V1))
            self._counting = True

    def _enable_controllers(self) -> dict[str, str]:
        """Let the controllers of v2 into the job's group, from the base down.

        Returns why not, for those that cannot be enabled: without them the job has no limits of
        that kind and no readings, which is in order as long as no such limit is asked for.
        """
        obstacles: dict[str, str] = {}
        ours = self.hierarchy.unified_controllers & self.homes.keys()
        if self.unified is None or not ours:
            return obstacles
        if self.hierarchy.delegated and Group(str(self.unified), Version.V2).inhabited():
            vacate(self.unified)
        for directory in _path_down(self.unified, self._parent):
            obstacles |= Group(str(directory), Version.V2).enable(ours - obstacles.keys())
        return obstacles

    def _nowhere(self) -> LimitsUnsupported:
        seen = [
            *([self.hierarchy.unified] if self.hierarchy.unified else []),
            *self.hierarchy.legacy.values(),
        ]
        if seen:
            return unwritable("no control group can be made here", seen[0])
        return Unenforceable(
            "no control group can be made here", "no cgroup file system is mounted", REMEDY
        )

    def _find_homes(self) -> Iterator[tuple[str, Home]]:
        for controller in CONTROLLERS:
            home = self.hierarchy.home(controller.name)
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
