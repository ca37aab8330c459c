"""What this host can enforce and tell, and why not.

An empty group is made in each hierarchy to look at its files, and removed again; nothing else changes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from os import getpid
from pathlib import Path
from types import MappingProxyType

from ..core.errors import LimitsUnsupported, QuotaExceeded
from ..core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)
from .controllers import (
    cpu,
    cpuset,
    io,
    memory,
    pids,
)
from .controllers.table import CONTROLLERS, Controller
from .group import Group
from .hierarchy.hierarchy import (
    Hierarchy,
    Home,
    Version,
    detect,
)
from .settings import Setting
from .subtree import Subtree
from .unenforceable import REMEDY, Unenforceable

_BOOT_PSI = "use Linux 4.20 or later, and boot with psi=1 on the kernel command line"
_USE_UNIFIED = (
    "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with cgroup v2; "
    "a server that may mount does so by itself"
)
_OTHER_KERNEL = "use a kernel that was built with it"


class HierarchyKind(StrEnum):
    """How control groups are mounted: the controllers all in one, or each on its own."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a host offers, or not; then ``reason`` says why, and ``remedy`` what helps."""

    available: bool = True
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a worker with these rights can do here.

    ``controllers``: where each is found (v2 names; ``cpuacct`` counts CPU time). ``delegated``: the
    v2 group was handed to this process to manage. ``limits``: by name as in ResourceLimits, such as
    ``memory.swap_max``. ``usable``: whether groups can be made at all.
    """

    hierarchy: HierarchyKind
    controllers: Mapping[str, Path]
    unified: Path | None
    delegated: bool
    usable: Capability
    limits: Mapping[str, Capability]
    cgroup_kill: Capability
    pressure: Capability

    @property
    def swap_accounting(self) -> Capability:
        """Whether the kernel counts a group's swap, without which it cannot be bounded."""
        return self.limits["memory.swap_max"]


_YES = Capability()
_SOME = 1 << 30
_SAMPLES: tuple[tuple[str, Controller, ResourceLimits], ...] = (
    ("cpu.quota", cpu, ResourceLimits(cpu=CpuLimit(quota=1))),
    ("cpu.weight", cpu, ResourceLimits(cpu=CpuLimit(weight=100))),
    ("memory.max", memory, ResourceLimits(memory=MemoryLimit(max=_SOME))),
    ("memory.high", memory, ResourceLimits(memory=MemoryLimit(high=_SOME))),
    ("memory.swap_max", memory, ResourceLimits(memory=MemoryLimit(max=_SOME, swap_max=0))),
    ("io", io, ResourceLimits(io=(IoLimit("0:0", _SOME, _SOME, _SOME, _SOME),))),
    ("pids", pids, ResourceLimits(pids=_SOME)),
    ("cpuset", cpuset, ResourceLimits()),  # there is no CPU that is on every host
)


def capabilities(parent: str, hierarchy: Hierarchy | None = None) -> Capabilities:
    """Return what a limiter with this parent group could do for children of this process."""
    hierarchy = detect(getpid()) if hierarchy is None else hierarchy
    try:
        subtree = Subtree(parent, hierarchy)
        with _probe(parent, subtree) as probes:
            limits = {
                name: _limit(subtree, probes, controller, sample) for name, controller, sample in _SAMPLES
            }
            unified = Group(str(probes[subtree.unified]), Version.V2) if subtree.unified else None
            return _found(hierarchy, limits, unified)
    except (LimitsUnsupported, QuotaExceeded) as error:
        why = _why_not(error)
        return _found(hierarchy, {name: why for name, _, _ in _SAMPLES}, None, usable=why)


def _found(
    hierarchy: Hierarchy,
    limits: dict[str, Capability],
    unified: Group | None,
    usable: Capability = _YES,
) -> Capabilities:
    homes = {each.name: hierarchy.home(each.name) for each in CONTROLLERS}
    return Capabilities(
        hierarchy=_kind(hierarchy),
        controllers=MappingProxyType({name: home.base for name, home in homes.items() if home}),
        unified=hierarchy.unified,
        delegated=hierarchy.delegated,
        usable=usable,
        limits=MappingProxyType(limits),
        cgroup_kill=_file(unified, "cgroup.kill", "use Linux 5.14 or later"),
        pressure=_file(unified, "memory.pressure", _BOOT_PSI),
    )


def _kind(hierarchy: Hierarchy) -> HierarchyKind:
    if hierarchy.unified is None:
        return HierarchyKind.V1 if hierarchy.legacy else HierarchyKind.NONE
    return HierarchyKind.V2 if hierarchy.has_unified_controllers else HierarchyKind.HYBRID


def _file(unified: Group | None, name: str, remedy: str) -> Capability:
    if unified is None:
        return Capability(False, "there is no cgroup v2 hierarchy that can be used", _USE_UNIFIED)
    return _YES if unified.has(name) else Capability(False, f"this kernel has no {name}", remedy)


def _limit(
    subtree: Subtree, probes: Mapping[Path, Path], controller: Controller, sample: ResourceLimits
) -> Capability:
    """Tell whether one limit could be set, by planning it for a group that is there."""
    if obstacle := subtree.obstacle(controller):
        return _why_not(obstacle)
    home = subtree.homes[controller.name]
    group = _group_with(controller.name, home, probes[home.base])
    if group is None:
        return _YES  # it is known once the controller is enabled
    try:
        missing = [setting.file for setting in controller.settings(group, sample) if _is_missing(setting)]
    except Unenforceable as error:
        return _why_not(error)
    if missing:
        return Capability(False, f"this kernel has no {', '.join(missing)}", _OTHER_KERNEL)
    return _YES


def _group_with(controller: str, home: Home, probe: Path) -> Group | None:
    """Return a group that has the files of a controller: the probe, or the one around it.

    On v2 only the server, once it is there, may let controllers into the probe.
    """
    group, around = Group(str(probe), home.version), Group(str(home.base), home.version)
    if home.version is Version.V1 or controller in group.words("cgroup.controllers"):
        return group
    return around if around.has("cgroup.type") else None


def _is_missing(setting: Setting) -> bool:
    return setting.value is not None and not setting.group.has(setting.file)


def _why_not(error: Exception) -> Capability:
    if isinstance(error, Unenforceable):
        return Capability(False, error.reason, error.remedy)
    return Capability(False, str(error), REMEDY)


@contextmanager
def _probe(parent: str, subtree: Subtree) -> Iterator[dict[Path, Path]]:
    """Make an empty group in each hierarchy, given by base, and remove them again."""
    probes: dict[Path, Path] = {}
    try:
        for base in subtree.bases():
            own = base / parent
            probe = Group(f"{own if own.is_dir() else base}/worker-probe-{getpid()}", Version.V2)
            probe.make()
            probes[base] = Path(probe.path)
        yield probes
    finally:
        for path in probes.values():
            with suppress(FileNotFoundError):
                path.rmdir()
