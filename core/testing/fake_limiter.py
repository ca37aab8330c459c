"""A limiter that limits nothing and remembers everything, for tests and for embedding."""

from collections.abc import Collection, Sequence

from ..errors import LimitsRejected
from ..model.job import JobId
from ..model.limits import ResourceLimits, ResourceUsage
from ..ports import Placement, PlacementKind


class FakeScope:
    """The place of one job, on paper only.

    ``consumed`` is what ``usage`` reports; a test may set it.
    """

    def __init__(self, limiter: "FakeLimiter", job: JobId, placement: Placement) -> None:
        self.placement = placement
        self.warnings: Sequence[str] = ()
        self.consumed = ResourceUsage(cpu_usec=0, memory_current=0, memory_peak=0, pids_current=0)
        self._limiter = limiter
        self._job = job

    async def update(self, limits: ResourceLimits) -> None:
        """Remember the limits; raise LimitsRejected if told to."""
        if self._limiter.refuse is not None:
            raise LimitsRejected(self._limiter.refuse)
        self._limiter.limits[self._job] = limits

    async def usage(self) -> ResourceUsage:
        """Return what the test says was used."""
        return self.consumed

    async def remove(self) -> None:
        """Take the scope off the limiter's list."""
        if self._limiter.scopes.get(self._job) is self:
            del self._limiter.scopes[self._job]


class FakeLimiter:
    """A ResourceLimiter that enforces nothing.

    ``limits`` holds what was asked for each job, also after its scope is gone; ``scopes`` the
    scopes there are. With ``refuse`` each ``prepare`` and ``update`` raises LimitsRejected so.
    With another ``kind`` than NONE the placements name directories that do not exist.
    """

    def __init__(self, *, kind: PlacementKind = PlacementKind.NONE, refuse: str | None = None) -> None:
        self.kind = kind
        self.refuse = refuse
        self.limits: dict[JobId, ResourceLimits] = {}
        self.scopes: dict[JobId, FakeScope] = {}
        self.closed = False

    async def prepare(self, job: JobId, limits: ResourceLimits, parent: int) -> FakeScope:
        """Remember the limits and make a scope, anew if there was one; raise LimitsRejected if told to."""
        del parent
        if self.refuse is not None:
            raise LimitsRejected(self.refuse)
        scope = FakeScope(self, job, self._placement(job))
        self.limits[job] = limits
        self.scopes[job] = scope
        return scope

    async def reopen(self, job: JobId, placement: Placement) -> FakeScope | None:
        """Return the scope that ``prepare`` made, unless it was removed."""
        scope = self.scopes.get(job)
        return scope if scope is not None and scope.placement == placement else None

    async def sweep(self, keep: Collection[JobId]) -> None:
        """Drop the scopes of all other jobs."""
        self.scopes = {job: scope for job, scope in self.scopes.items() if job in keep}

    async def close(self) -> None:
        """Note that it was called."""
        self.closed = True

    def _placement(self, job: JobId) -> Placement:
        if self.kind is PlacementKind.NONE:
            return Placement()
        return Placement(unified=f"/nonexistent/{job}")
