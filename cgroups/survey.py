"""Finds the existing cgroups of jobs, by their placement or by their names."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..core.host.unit_names import contains_units, is_worker_systemd_scope
from ..core.model.job import JobId, job_ids_among
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement
from .cgroup import Cgroup
from .controllers.all_controllers import CONTROLLERS
from .hierarchy.hierarchy import CPU_TIME, Hierarchy, Version
from .scope import CgroupScope
from .tree import children, walk
from .unenforceable import Unenforceable

_START_AGAIN = "start the job again; `worker doctor` shows whether new jobs can have this limit"


def scope_at(placement: Placement, hierarchy: Hierarchy, *, pressure: bool = True) -> CgroupScope:
    """Return the scope with these cgroups; they need not exist. ``pressure`` is part of its usage."""

    def find() -> dict[str, Cgroup]:
        offered = scope.unified.words("cgroup.controllers") if scope.unified else ()
        found = {each.name: _cgroup_with(each.name, offered, placement, hierarchy) for each in CONTROLLERS}
        return {name: cgroup for name, cgroup in found.items() if cgroup is not None}

    def admit(limits: ResourceLimits) -> None:
        for each in CONTROLLERS:
            if each.requested(limits) and each.name not in scope.controllers:
                locate(each.name)

    def locate(name: str) -> Cgroup:
        cgroup = _legacy_cgroup(name, placement, hierarchy)
        if cgroup is None:
            reason = f"no control group of the job has the {name} controller"
            raise Unenforceable(f"limits.{name}", reason, _START_AGAIN)
        return cgroup

    scope = CgroupScope(placement, find, admit, locate, pressure=pressure)
    return scope


def _cgroup_with(
    controller: str, offered: Collection[str], placement: Placement, hierarchy: Hierarchy
) -> Cgroup | None:
    if placement.unified and (controller == CPU_TIME or controller in offered):
        return Cgroup(placement.unified, Version.V2)
    cgroup = _legacy_cgroup(controller, placement, hierarchy)
    # Not in the placement: it was created for a limit that was set later.
    known = cgroup is not None and (cgroup.path in placement.legacy or os.path.isdir(cgroup.path))
    return cgroup if known else None


def _legacy_cgroup(controller: str, placement: Placement, hierarchy: Hierarchy) -> Cgroup | None:
    """Return the cgroup of a controller of v1, at the same path as the others of the job."""
    base = hierarchy.legacy.get(controller)
    if base is None:
        return None
    for path in placement.legacy:
        for other in hierarchy.legacy.values():
            if path.startswith(f"{other}/"):
                return Cgroup(f"{base}/{path.removeprefix(f'{other}/')}", Version.V1)
    top = f"{hierarchy.unified}/"
    if placement.unified and placement.unified.startswith(top):
        return Cgroup(f"{base}/{placement.unified.removeprefix(top)}", Version.V1)
    return None


def left_in(parents: Iterable[Path], top: Path | None) -> dict[JobId, list[Placement]]:
    """Return the cgroups of jobs directly below some cgroups; v2 is mounted at ``top``.

    Several placements of a job differ only in v2: it was placed more than once.
    """
    unified: defaultdict[JobId, list[str]] = defaultdict(list)
    legacy: defaultdict[JobId, list[str]] = defaultdict(list)
    for parent in sorted(parents):
        found = unified if top is not None and parent.is_relative_to(top) else legacy
        for job in job_ids_among(children(str(parent))):
            found[job].append(str(parent / str(job)))
    return {
        job: [Placement(each or None, tuple(legacy[job])) for each in unified[job] or [""]]
        for job in {*unified, *legacy}
    }


def worker_systemd_scopes(top: Path) -> Iterator[Path]:
    """Return the cgroups of all systemd scopes of workers, also of those started by users' systemd."""
    with suppress(OSError):
        for path in walk(str(top), contains_units):
            if is_worker_systemd_scope(os.path.basename(path)):
                yield Path(path)
