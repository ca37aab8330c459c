"""The limits that this host can enforce, and why it cannot enforce the others.

Creates an empty cgroup in each hierarchy to examine its files, and removes it again; changes nothing else.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from os import getpid
from pathlib import Path
from types import MappingProxyType

from ..core.errors import LimitsUnsupported, QuotaExceeded
from ..core.host.unit_names import probe_cgroup
from ..core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)
from .cgroup import Cgroup
from .controllers import (
    cpu,
    cpuset,
    io,
    memory,
    pids,
)
from .controllers.all_controllers import CONTROLLERS
from .controllers.controller import Controller
from .hierarchy.detection import detect
from .hierarchy.hierarchy import FREEZER, ControllerRoot, Hierarchy, Version
from .settings import Setting
from .subtree import Subtree
from .unenforceable import REMEDY, Unenforceable

_BOOT_PSI = "use Linux 4.20 or later, and boot with psi=1 on the kernel command line"
_USE_UNIFIED = (
    "mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or boot with cgroup v2; "
    "a server with the right to mount does it itself"
)
_NEW_FREEZER = "use Linux 5.2 or later"
_OTHER_KERNEL = "use a kernel built with it"


class HierarchyKind(StrEnum):
    """How cgroups are mounted: all controllers in one hierarchy (v2), or each in its own (v1)."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether a host offers one feature; if not, ``reason`` and ``remedy`` are set."""

    available: bool = True
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features that a worker with these rights can use on this host.

    ``controllers``: the base of each (v2 names; ``cpuacct`` counts CPU time). ``delegated``: the
    v2 cgroup was delegated to this process. ``limits``: by name as in ResourceLimits, such as
    ``memory.swap_max``. ``usable``: whether cgroups can be created at all.
    """

    hierarchy: HierarchyKind
    controllers: Mapping[str, Path]
    unified: Path | None
    delegated: bool
    usable: Capability
    limits: Mapping[str, Capability]
    cgroup_kill: Capability
    freezer: Capability
    pressure: Capability


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
    ("cpuset", cpuset, ResourceLimits()),  # no CPU exists on every host
)


def capabilities(parent: str, hierarchy: Hierarchy | None = None) -> Capabilities:
    """Return the capabilities of a limiter with this parent cgroup, for children of this process."""
    hierarchy = detect(getpid()) if hierarchy is None else hierarchy
    try:
        subtree = Subtree(parent, hierarchy)
        with _probe(parent, subtree) as probes:
            limits = {
                name: _limit(subtree, probes, controller, sample) for name, controller, sample in _SAMPLES
            }
            unified = Cgroup(str(probes[subtree.unified]), Version.V2) if subtree.unified else None
            freezer = _YES if FREEZER in subtree.roots else _file(unified, "cgroup.freeze", _NEW_FREEZER)
            return _found(hierarchy, limits, unified, freezer)
    except (LimitsUnsupported, QuotaExceeded) as error:
        why = _unavailable(error)
        return _found(hierarchy, {name: why for name, _, _ in _SAMPLES}, None, why, usable=why)


def _found(
    hierarchy: Hierarchy,
    limits: dict[str, Capability],
    unified: Cgroup | None,
    freezer: Capability,
    usable: Capability = _YES,
) -> Capabilities:
    roots = {each.name: hierarchy.root(each.name) for each in CONTROLLERS}
    return Capabilities(
        hierarchy=_kind(hierarchy),
        controllers=MappingProxyType({name: root.base for name, root in roots.items() if root}),
        unified=hierarchy.unified,
        delegated=hierarchy.delegated,
        usable=usable,
        limits=MappingProxyType(limits),
        cgroup_kill=_file(unified, "cgroup.kill", "use Linux 5.14 or later"),
        freezer=freezer,
        pressure=_file(unified, "memory.pressure", _BOOT_PSI),
    )


def _kind(hierarchy: Hierarchy) -> HierarchyKind:
    if hierarchy.unified is None:
        return HierarchyKind.V1 if hierarchy.legacy else HierarchyKind.NONE
    return HierarchyKind.V2 if hierarchy.has_unified_controllers else HierarchyKind.HYBRID


def _file(unified: Cgroup | None, name: str, remedy: str) -> Capability:
    if unified is None:
        return Capability(False, "there is no usable cgroup v2 hierarchy", _USE_UNIFIED)
    return _YES if unified.has(name) else Capability(False, f"this kernel has no {name}", remedy)


def _limit(
    subtree: Subtree, probes: Mapping[Path, Path], controller: Controller, sample: ResourceLimits
) -> Capability:
    """Return whether one limit could be set, from the settings for an existing cgroup."""
    if obstacle := subtree.obstacle(controller):
        return _unavailable(obstacle)
    root = subtree.roots[controller.name]
    cgroup = _cgroup_with(controller.name, root, probes[root.base])
    if cgroup is None:
        return _YES  # the files exist only once the controller is enabled
    try:
        missing = [setting.file for setting in controller.settings(cgroup, sample) if _is_missing(setting)]
    except Unenforceable as error:
        return _unavailable(error)
    if missing:
        return Capability(False, f"this kernel has no {', '.join(missing)}", _OTHER_KERNEL)
    return _YES


def _cgroup_with(controller: str, root: ControllerRoot, probe: Path) -> Cgroup | None:
    """Return a cgroup that has the files of a controller: the probe, or the one around it.

    In v2 only a running server may enable controllers for the probe.
    """
    cgroup, around = Cgroup(str(probe), root.version), Cgroup(str(root.base), root.version)
    if root.version is Version.V1 or controller in cgroup.words("cgroup.controllers"):
        return cgroup
    return around if around.has("cgroup.type") else None


def _is_missing(setting: Setting) -> bool:
    return setting.value is not None and not setting.cgroup.has(setting.file)


def _unavailable(error: Exception) -> Capability:
    if isinstance(error, Unenforceable):
        return Capability(False, error.reason, error.remedy)
    return Capability(False, str(error), REMEDY)


@contextmanager
def _probe(parent: str, subtree: Subtree) -> Iterator[dict[Path, Path]]:
    """Create an empty cgroup in each hierarchy, yield them by base, and remove them."""
    probes: dict[Path, Path] = {}
    try:
        for base in subtree.bases():
            own = base / parent
            probe = Cgroup(f"{own if own.is_dir() else base}/{probe_cgroup(getpid())}", Version.V2)
            probe.create()
            probes[base] = Path(probe.path)
        yield probes
    finally:
        for path in probes.values():
            with suppress(FileNotFoundError):
                path.rmdir()
