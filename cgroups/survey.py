"""What is left of jobs: their groups, found again by where they lie or by their names."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..core.model.job import JobId, job_ids_among
from ..core.model.limits import ResourceLimits
from ..core.ports import Placement
from .controllers.table import CONTROLLERS
from .group import Group
from .hierarchy.hierarchy import CPU_TIME, Hierarchy, Version
from .scope import CgroupScope
from .unenforceable import Unenforceable

_OUR_SCOPES = ("worker-", ".scope")
"""What the names of the systemd units begin and end with that supervisors live in."""

_START_AGAIN = "start the job again, it gets a group that can have this limit where `worker doctor` says so"


def scope_at(placement: Placement, hierarchy: Hierarchy) -> CgroupScope:
    """Return the scope with these groups, whoever made them, and whether they are there or not."""

    def find() -> dict[str, Group]:
        offered = scope.unified.words("cgroup.controllers") if scope.unified else ()
        found = {each.name: _group_with(each.name, offered, placement, hierarchy) for each in CONTROLLERS}
        return {name: group for name, group in found.items() if group is not None}

    def admit(limits: ResourceLimits) -> None:
        for each in CONTROLLERS:
            if each.asked(limits) and each.name not in scope.controllers:
                reason = f"the job is in no control group that has the {each.name} controller"
                raise Unenforceable(f"limits.{each.name}", reason, _START_AGAIN)

    scope = CgroupScope(placement, find, admit)
    return scope


def _group_with(
    controller: str, offered: Collection[str], placement: Placement, hierarchy: Hierarchy
) -> Group | None:
    if placement.unified and (controller == CPU_TIME or controller in offered):
        return Group(placement.unified, Version.V2)
    base = hierarchy.legacy.get(controller)
    paths = (path for path in placement.legacy if base and Path(path).is_relative_to(base))
    return next((Group(path, Version.V1) for path in paths), None)


def left_in(places: Iterable[Path], top: Path | None) -> dict[JobId, list[Placement]]:
    """Return the groups that jobs have in some places; v2 is mounted at ``top``.

    Several placements of a job differ in v2 only: it was placed again.
    """
    unified: defaultdict[JobId, list[str]] = defaultdict(list)
    legacy: defaultdict[JobId, list[str]] = defaultdict(list)
    for place in sorted(places):
        found = unified if top is not None and place.is_relative_to(top) else legacy
        with suppress(FileNotFoundError):
            for job in job_ids_among(os.listdir(place)):
                found[job].append(str(place / str(job)))
    return {
        job: [Placement(each or None, tuple(legacy[job])) for each in unified[job] or [""]]
        for job in {*unified, *legacy}
    }


def our_units(top: Path) -> Iterator[Path]:
    """Return the units of systemd, and of its instances for users, that supervisors live or lived in."""
    first, last = _OUR_SCOPES
    with suppress(OSError):  # it goes while we look
        for entry in os.scandir(top):
            name = entry.name
            if name.startswith(first) and name.endswith(last):
                yield Path(entry)
            elif name.endswith(".slice") or (name.startswith("user@") and name.endswith(".service")):
                yield from our_units(Path(entry))
