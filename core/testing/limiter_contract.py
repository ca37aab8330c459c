"""The contract suite of ResourceLimiter."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

from ..errors import (
    InvalidJobSpec,
    LimitsRejected,
    LimitsUnsupported,
    SpawnerUnavailable,
    WorkerError,
)
from ..model.job import new_job_id
from ..model.limits import (
    IoLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
)
from ..ports import Placement, PlacementKind, ResourceLimiter
from .contract import Contract

NO_LIMITS = ResourceLimits()
NO_SUCH_DEVICE = ResourceLimits(io=(IoLimit("/nonexistent/device", read_bytes_per_second=1),))


class LimiterContract(Contract):
    """A suite of checks; ``make`` creates a limiter for each and closes it afterwards.

    A limiter of kind NONE has no cgroups, so the rules about finding scopes do not apply to it.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[ResourceLimiter]]) -> None:
        self._make = make

    async def check_placements_have_the_kind_of_the_limiter(self) -> None:
        """Every scope has a placement of the kind that the limiter states."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            assert limiter.kind == scope.placement.kind
            await scope.remove()

    async def check_paths_of_a_placement_are_absolute(self) -> None:
        """The paths of a placement do not depend on a working directory."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            placement = scope.placement
            paths = [placement.unified, *placement.legacy, placement.oom_events]
            assert all(path.startswith("/") for path in paths if path is not None)
            await scope.remove()

    async def check_each_job_has_cgroups_of_its_own(self) -> None:
        """No two jobs share a cgroup, also if they are prepared concurrently."""
        async with self._make() as limiter:
            scopes = await asyncio.gather(
                *(limiter.prepare(new_job_id(), NO_LIMITS, os.getpid()) for _ in range(20))
            )
            paths = [
                path
                for scope in scopes
                for path in (scope.placement.unified, *scope.placement.legacy)
                if path
            ]
            assert len(set(paths)) == len(paths)
            await asyncio.gather(*(scope.remove() for scope in scopes))

    async def check_reopen_returns_the_prepared_scope(self) -> None:
        """``reopen`` returns the scope of an earlier ``prepare``, as after a restart of the server."""
        async with self._make() as limiter:
            job = new_job_id()
            prepared = await limiter.prepare(job, NO_LIMITS, os.getpid())
            reopened = await limiter.reopen(job, prepared.placement)
            assert reopened is not None
            assert prepared.placement == reopened.placement
            assert tuple(prepared.warnings) == tuple(reopened.warnings)
            await reopened.remove()

    async def check_reopen_of_a_job_without_cgroups_is_none(self) -> None:
        """``reopen`` returns None for a job that was started without cgroups by another limiter."""
        async with self._make() as limiter:
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(new_job_id(), Placement()) is None

    async def check_prepare_for_a_parent_that_has_ended(self) -> None:
        """``prepare`` ignores the parent or raises SpawnerUnavailable; nothing is left behind."""
        async with self._make() as limiter:
            job = new_job_id()
            with suppress(SpawnerUnavailable):
                await (await limiter.prepare(job, NO_LIMITS, await _ended_process())).remove()

    async def check_removing_twice(self) -> None:
        """``remove`` is idempotent."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            await scope.remove()
            await scope.remove()

    async def check_removed_scope_is_not_found(self) -> None:
        """``reopen`` returns None after the removal of a scope."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.remove()
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(job, scope.placement) is None

    async def check_usage_is_counted_from_zero(self) -> None:
        """The usage of a new scope is zero, or None for values that are not available on this host."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            usage = await scope.usage()
            readings = [getattr(usage, name) for name in ResourceUsage.__slots__]
            assert all(reading >= 0 for reading in readings if isinstance(reading, int))
            pressures = [reading for reading in readings if isinstance(reading, Pressure)]
            assert all(pressure.some_total_usec >= 0 for pressure in pressures)
            assert usage.cpu_usec in {None, 0}
            await scope.remove()

    async def check_prepare_replaces_the_scope_of_an_interrupted_start(self) -> None:
        """A repeated ``prepare`` of the same job has the same placement."""
        async with self._make() as limiter:
            job = new_job_id()
            first = await limiter.prepare(job, NO_LIMITS, os.getpid())
            second = await limiter.prepare(job, NO_LIMITS, os.getpid())
            assert first.placement == second.placement
            await second.remove()

    async def check_a_rejected_limit_leaves_nothing(self) -> None:
        """``prepare`` rejects a limit that cannot be enforced, with a reason, and leaves nothing behind."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.remove()
            rejection: WorkerError | None = None
            try:
                await (await limiter.prepare(job, NO_SUCH_DEVICE, os.getpid())).remove()
            except (InvalidJobSpec, LimitsRejected, LimitsUnsupported) as error:
                rejection = error
            assert rejection is None or str(rejection)
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(job, scope.placement) is None

    async def check_update_to_no_limits_is_always_accepted(self) -> None:
        """All limits can be lifted, in a prepared scope and in a reopened one."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.update(NO_LIMITS)
            reopened = await limiter.reopen(job, scope.placement)
            assert reopened is not None
            await reopened.update(NO_LIMITS)
            await reopened.remove()

    async def check_a_rejected_update_keeps_the_scope(self) -> None:
        """``update`` rejects a limit that cannot be enforced, with a reason; the scope remains."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            rejection: WorkerError | None = None
            try:
                await scope.update(NO_SUCH_DEVICE)
            except (InvalidJobSpec, LimitsRejected, LimitsUnsupported) as error:
                rejection = error
            assert rejection is None or str(rejection)
            assert await limiter.reopen(job, scope.placement) is not None
            await scope.remove()

    async def check_sweep_removes_all_but_the_kept(self) -> None:
        """``sweep`` removes the scopes of all other jobs, and nothing else."""
        async with self._make() as limiter:
            kept, swept = new_job_id(), new_job_id()
            scope = await limiter.prepare(kept, NO_LIMITS, os.getpid())
            other = await limiter.prepare(swept, NO_LIMITS, os.getpid())
            await limiter.sweep({kept})
            assert await limiter.reopen(kept, scope.placement) is not None
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(swept, other.placement) is None
            await scope.remove()

    async def check_sweep_without_any_scope(self) -> None:
        """``sweep`` works before the first job."""
        async with self._make() as limiter:
            await limiter.sweep([])

    async def check_close_keeps_scopes(self) -> None:
        """``close`` keeps the scopes of jobs, and can be repeated."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await limiter.close()
            assert await limiter.reopen(job, scope.placement) is not None
            await scope.remove()
            await limiter.close()


async def _ended_process() -> int:
    """Return the pid of a process that has ended; the kernel does not reuse it soon."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return process.pid
