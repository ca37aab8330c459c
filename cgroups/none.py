"""The ResourceLimiter for hosts where no cgroup can be created."""

from collections.abc import Collection, Sequence

from ..core.errors import LimitsUnsupported
from ..core.model.job import JobId
from ..core.model.limits import ResourceLimits, ResourceUsage
from ..core.ports import Placement, PlacementKind


class NoScope:
    """A scope without cgroups: the job runs like any other process."""

    placement = Placement()

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self.warnings: Sequence[str] = (
            f"no cgroup: {reason}; the job has no limits, and processes that hide may outlive it",
        )

    async def update(self, limits: ResourceLimits) -> None:
        """Refuse every limit, as when the job was started."""
        _refuse(limits, self._reason)

    async def usage(self) -> ResourceUsage:
        return ResourceUsage()

    async def remove(self) -> None:
        pass


class NoLimiter:
    """Refuses every limit; ``reason`` states why there are no cgroups, and the remedy."""

    kind = PlacementKind.NONE

    def __init__(self, reason: str) -> None:
        self._scope = NoScope(reason)
        self._reason = reason

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> NoScope:  # noqa: ARG002 - the port's signature
        """Return the empty scope; raise LimitsUnsupported if any limit is requested."""
        _refuse(limits, self._reason)
        return self._scope

    async def reopen(self, job: JobId, placement: Placement) -> NoScope | None:  # noqa: ARG002 - the port's signature
        """Return the empty scope; None for a job that was started under another limiter."""
        return self._scope if placement.kind is PlacementKind.NONE else None

    async def sweep(self, keep: Collection[JobId]) -> None:
        pass

    async def close(self) -> None:
        pass


def _refuse(limits: ResourceLimits, reason: str) -> None:
    default = ResourceLimits()
    requested = [name for name in default.__slots__ if getattr(limits, name) != getattr(default, name)]
    if requested:
        names = ", ".join(f"limits.{name}" for name in requested)
        raise LimitsUnsupported(f"{names}: cannot be enforced: {reason}")
