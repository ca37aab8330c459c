"""The cgroup hierarchies of a host: where each controller is, and where cgroups can be created."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

V1_NAMES = {"io": "blkio"}
"""Controllers with another name in v1; all other code uses the names of v2."""

CPU_TIME = "cpuacct"
"""CPU time: v2 counts it in cpu.stat of every cgroup, without a controller (Linux 4.15); v1 in cpuacct."""


FREEZER = "freezer"
"""The controller of v1 that stops processes; in v2 each cgroup can do that (Linux 5.2)."""


class Version(IntEnum):
    """The version of a hierarchy, which determines the names and the meaning of its files."""

    V1 = 1
    V2 = 2


@dataclass(frozen=True, slots=True)
class ControllerRoot:
    """The directory below which the cgroups with one controller are created."""

    base: Path
    version: Version


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The directories below which cgroups can be created: ``legacy`` by v1 controller, and that of v2.

    A controller is either in v1 or in v2, never in both. A hybrid host has a ``unified`` base
    with few or no controllers in it. ``delegated``: that base was delegated to a process.
    ``top`` is the mount point of v2.
    """

    legacy: Mapping[str, Path]
    unified: Path | None = None
    unified_controllers: frozenset[str] = frozenset()
    delegated: bool = False
    top: Path | None = None

    @property
    def has_unified_controllers(self) -> bool:
        """Whether controllers are expected in v2: true on all hosts except v1 and hybrid ones."""
        return self.unified is not None and not self.legacy.keys() - {CPU_TIME}

    def root(self, controller: str) -> ControllerRoot | None:
        """Return where cgroups with this controller are created, None if no hierarchy has it."""
        if self.unified is not None and controller in self.unified_controllers | {CPU_TIME}:
            return ControllerRoot(self.unified, Version.V2)
        if controller in self.legacy:
            return ControllerRoot(self.legacy[controller], Version.V1)
        return None
