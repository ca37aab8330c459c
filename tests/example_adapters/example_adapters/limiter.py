"""A ResourceLimiter for the number of processes: one cgroup for each job, with the controller pids."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from worker.core import (
    JobId,
    LimitsRejected,
    LimitsUnsupported,
    Placement,
    PlacementKind,
    ResourceLimits,
    ResourceUsage,
    job_ids_among,
)

CGROUPFS = Path("/sys/fs/cgroup")


class PidsScope:
    """The cgroup of one job."""

    warnings: Sequence[str] = ()

    def __init__(self, group: Path, *, unified: bool) -> None:
        self._group = group
        path = str(group)
        self.placement = Placement(unified=path) if unified else Placement(legacy=(path,))

    async def update(self, limits: ResourceLimits) -> None:
        """Set ``pids.max``; refuse every other limit."""
        if replace(limits, pids=None) != ResourceLimits():
            raise LimitsUnsupported("the limiter example-pids enforces limits.pids only")
        value = "max" if limits.pids is None else str(limits.pids)
        try:
            (self._group / "pids.max").write_text(value)
        except OSError as error:
            raise LimitsRejected(f"{self._group}/pids.max: {value}: {error.strerror}") from error

    async def usage(self) -> ResourceUsage:
        """Return the number of processes."""
        return ResourceUsage(pids_current=int((self._group / "pids.current").read_text()))

    async def remove(self) -> None:
        """Remove the cgroup and those that the job made in it. The next sweep repeats what fails."""
        for directory, _, _ in os.walk(self._group, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)


class PidsLimiter:
    """Makes the cgroup NAME/JOB in the hierarchy that has the controller pids; OSError where it cannot."""

    kind = PlacementKind.CGROUPS

    def __init__(self, name: str) -> None:
        self._unified = (CGROUPFS / "cgroup.controllers").exists()
        top = CGROUPFS if self._unified else CGROUPFS / "pids"
        self._parent = top / name
        self._make_parent()  # raises where no job could be placed
        with suppress(OSError):  # jobs run in it
            self._parent.rmdir()

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> PidsScope:
        """Make a cgroup with the limit set; the spawner places the job in it."""
        del parent  # as root, a process can be placed anywhere
        scope = self._scope(job)
        await scope.remove()  # left by a start that was interrupted
        try:
            self._make_parent()
            (self._parent / str(job)).mkdir()
        except OSError as error:
            raise LimitsRejected(f"no cgroup can be made for the job: {error}") from error
        try:
            await scope.update(limits)
        except BaseException:
            await scope.remove()
            raise
        return scope

    async def reopen(self, job: JobId, placement: Placement) -> PidsScope | None:
        """Return the scope of a job if its cgroup exists and is one of this limiter."""
        scope = self._scope(job)
        exists = scope.placement == placement and (self._parent / str(job)).exists()
        return scope if exists else None

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the cgroups of all other jobs."""
        if self._parent.exists():
            for job in set(job_ids_among(os.listdir(self._parent))) - set(keep):
                await self._scope(job).remove()

    async def close(self) -> None:
        """Remove the parent cgroup, unless jobs run in it."""
        with suppress(OSError):
            self._parent.rmdir()

    def _make_parent(self) -> None:
        self._parent.mkdir(exist_ok=True)
        if self._unified:
            for group in (self._parent.parent, self._parent):
                (group / "cgroup.subtree_control").write_text("+pids")

    def _scope(self, job: JobId) -> PidsScope:
        return PidsScope(self._parent / str(job), unified=self._unified)
