"""A ResourceLimiter that enforces nothing and records all calls, for tests and for embedding."""

from collections.abc import Collection, Sequence

from ..errors import LimitsRejected
from ..model.job import JobId
from ..model.limits import ResourceLimits, ResourceUsage
from ..ports import Placement, PlacementKind


class FakeScope:
    """A scope without cgroups; ``consumed`` is the usage that it reports, and a test may set it."""

    def __init__(self, limiter: "FakeLimiter", job: JobId, placement: Placement) -> None:
        self.placement = placement
        self.warnings: Sequence[str] = ()
        self.consumed = ResourceUsage(cpu_usec=0, memory_current=0, memory_peak=0, pids_current=0)
        self._limiter = limiter
        self._job = job

    async def update(self, limits: ResourceLimits) -> None:
        """Record the limits, or raise LimitsRejected if ``refuse`` of the limiter is set."""
        if self._limiter.refuse is not None:
            raise LimitsRejected(self._limiter.refuse)
        self._limiter.limits[self._job] = limits

    async def usage(self) -> ResourceUsage:
        """Return the usage that the test has set."""
        return self.consumed

    async def remove(self) -> None:
        """Remove the scope from ``scopes`` of the limiter."""
        if self._limiter.scopes.get(self._job) is self:
            del self._limiter.scopes[self._job]


class FakeLimiter:
    """A ResourceLimiter that enforces nothing.

    ``limits`` has the requested limits of each job, also after the removal of its scope; ``scopes`` has
    the existing scopes. If ``refuse`` is set, ``prepare`` and ``update`` raise LimitsRejected with this
    message. With a ``kind`` other than NONE the placements name directories that do not exist.
    """

    def __init__(self, *, kind: PlacementKind = PlacementKind.NONE, refuse: str | None = None) -> None:
        self.kind = kind
        self.refuse = refuse
        self.limits: dict[JobId, ResourceLimits] = {}
        self.scopes: dict[JobId, FakeScope] = {}
        self.closed = False

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> FakeScope:
        """Record the limits and create a scope, or raise LimitsRejected if ``refuse`` is set."""
        del parent
        if self.refuse is not None:
            raise LimitsRejected(self.refuse)
        scope = FakeScope(self, job, self._placement(job))
        self.limits[job] = limits
        self.scopes[job] = scope
        return scope

    async def reopen(self, job: JobId, placement: Placement) -> FakeScope | None:
        """Return the scope that ``prepare`` created, None after its removal."""
        scope = self.scopes.get(job)
        return scope if scope is not None and scope.placement == placement else None

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Remove the scopes of all other jobs."""
        self.scopes = {job: scope for job, scope in self.scopes.items() if job in keep}

    async def close(self) -> None:
        """Record the call in ``closed``."""
        self.closed = True

    def _placement(self, job: JobId) -> Placement:
        if self.kind is PlacementKind.NONE:
            return Placement()
        return Placement(unified=f"/nonexistent/{job}")
