"""The port of limits: where a job is placed, and its cgroups."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ..model.job import (
    JobId,
)
from ..model.limits import ResourceLimits, ResourceUsage


class PlacementKind(StrEnum):
    """What a limiter prepares for a job, and what a spawner must do with it.

    NONE: nothing; the limiter enforces no limit. CGROUPS: directories of cgroupfs (``Placement``); the
    spawner places the main process in each of them before the command's first instruction.
    """

    NONE = "none"
    CGROUPS = "cgroups"


@dataclass(frozen=True, slots=True)
class Placement:
    """The cgroup directories of a job: all data needed to place, kill and watch its processes.

    ``unified`` is a v2 cgroup: the main process is created in it; cgroup.kill and cgroup.events are
    used there. ``legacy`` are v1 cgroups, joined before the exec. ``oom_events`` is a file with a line
    ``oom_kill N`` (memory.events on v2, memory.oom_control on v1).
    """

    unified: str | None = None
    legacy: tuple[str, ...] = ()
    oom_events: str | None = None

    @property
    def kind(self) -> PlacementKind:
        """Whether there is anything to be placed in."""
        return PlacementKind.CGROUPS if self.unified or self.legacy else PlacementKind.NONE


class Scope(Protocol):
    """The cgroups prepared for one job, with its limits set."""

    @property
    def placement(self) -> Placement:
        """Where the processes of the job are placed."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Guarantees that do not hold on this host, as messages for the user."""
        ...

    async def update(self, limits: ResourceLimits) -> None:
        """Replace the limits of a running job.

        Raises LimitsUnsupported, LimitsRejected, or LimitBelowUsage, a LimitsRejected that states how
        much memory the job uses; the limits are unchanged then.
        """
        ...

    async def usage(self) -> ResourceUsage:
        """Return the usage until now; once no process remains, the total."""
        ...

    async def remove(self) -> None:
        """Remove the cgroups and with them the usage. Idempotent; no process may remain."""
        ...


class ResourceLimiter(Protocol):
    """Prepares scopes, in which limits are enforced.

    It cannot place a process: the spawner does. Nor can it know when a scope can be removed and its usage
    is final: the spawner reports with ``Process.wait`` that no process is left.
    """

    @property
    def kind(self) -> PlacementKind:
        """The kind of placement of its scopes."""
        ...

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> Scope:
        """Prepare the scope of a job that ``parent``, a pid, will start, before any of its processes runs.

        Raises LimitsUnsupported or LimitsRejected; nothing is left behind then.
        """
        ...

    async def reopen(self, job: JobId, placement: Placement) -> Scope | None:
        """Return the existing scope with this placement, None if there is none."""
        ...

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the scopes of all other jobs of this worker."""
        ...

    async def close(self) -> None:
        """Release everything that is not in use by a job."""
        ...
