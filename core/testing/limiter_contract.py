"""What every ResourceLimiter promises."""

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
    """A suite of checks; ``make`` gives each a fresh limiter and closes it afterwards.

    A limiter of kind NONE has no places, so what is said about finding them does not bind it.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[ResourceLimiter]]) -> None:
        self._make = make

    async def check_placement_is_of_the_limiter_s_kind(self) -> None:
        """Make scopes of the kind that the limiter told beforehand."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            assert limiter.kind == scope.placement.kind
            await scope.remove()

    async def check_each_job_has_a_place_of_its_own(self) -> None:
        """Never put two jobs in one place, also when prepared at once."""
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

    async def check_reopen_finds_what_prepare_made(self) -> None:
        """Give the next server the same scope."""
        async with self._make() as limiter:
            job = new_job_id()
            prepared = await limiter.prepare(job, NO_LIMITS, os.getpid())
            reopened = await limiter.reopen(job, prepared.placement)
            assert reopened is not None
            assert prepared.placement == reopened.placement
            assert tuple(prepared.warnings) == tuple(reopened.warnings)
            await reopened.remove()

    async def check_reopen_of_a_job_without_place_is_none(self) -> None:
        """Find no scope for a job that another limiter let run without one."""
        async with self._make() as limiter:
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(new_job_id(), Placement()) is None

    async def check_nothing_is_prepared_for_a_parent_that_has_ended(self) -> None:
        """Refuse a job whose parent is no more, or do without knowing it; leave nothing behind."""
        async with self._make() as limiter:
            job = new_job_id()
            with suppress(SpawnerUnavailable):
                await (await limiter.prepare(job, NO_LIMITS, await _ended_process())).remove()

    async def check_removing_twice(self) -> None:
        """Removing is idempotent."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            await scope.remove()
            await scope.remove()

    async def check_removed_scope_is_not_found(self) -> None:
        """Leave nothing to be found after removal."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.remove()
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(job, scope.placement) is None

    async def check_usage_is_counted_from_zero(self) -> None:
        """Count from zero; a reading is None where the host does not tell."""
        async with self._make() as limiter:
            scope = await limiter.prepare(new_job_id(), NO_LIMITS, os.getpid())
            usage = await scope.usage()
            readings = [getattr(usage, name) for name in ResourceUsage.__slots__]
            assert all(reading >= 0 for reading in readings if isinstance(reading, int))
            pressures = [reading for reading in readings if isinstance(reading, Pressure)]
            assert all(pressure.some_total_usec >= 0 for pressure in pressures)
            assert usage.cpu_usec in {None, 0}
            await scope.remove()

    async def check_prepare_replaces_what_a_cut_off_start_has_left(self) -> None:
        """Give a job whose start is tried again its place again."""
        async with self._make() as limiter:
            job = new_job_id()
            first = await limiter.prepare(job, NO_LIMITS, os.getpid())
            second = await limiter.prepare(job, NO_LIMITS, os.getpid())
            assert first.placement == second.placement
            await second.remove()

    async def check_a_refusal_leaves_nothing(self) -> None:
        """Refuse a limit that cannot hold with a reason and without a trace."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.remove()
            refusal: WorkerError | None = None
            try:
                await (await limiter.prepare(job, NO_SUCH_DEVICE, os.getpid())).remove()
            except (InvalidJobSpec, LimitsRejected, LimitsUnsupported) as error:
                refusal = error
            assert refusal is None or str(refusal)
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(job, scope.placement) is None

    async def check_update_to_no_limits_is_always_taken(self) -> None:
        """Lift all limits, of which there may be none, in a scope of one's own or a reopened one."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await scope.update(NO_LIMITS)
            reopened = await limiter.reopen(job, scope.placement)
            assert reopened is not None
            await reopened.update(NO_LIMITS)
            await reopened.remove()

    async def check_a_refused_update_leaves_the_scope_in_use(self) -> None:
        """Refuse a limit that cannot hold with a reason; the job runs on in its place."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            refusal: WorkerError | None = None
            try:
                await scope.update(NO_SUCH_DEVICE)
            except (InvalidJobSpec, LimitsRejected, LimitsUnsupported) as error:
                refusal = error
            assert refusal is None or str(refusal)
            assert await limiter.reopen(job, scope.placement) is not None
            await scope.remove()

    async def check_sweep_removes_all_but_the_kept(self) -> None:
        """Sweep what belongs to no known job, and nothing else."""
        async with self._make() as limiter:
            kept, swept = new_job_id(), new_job_id()
            scope = await limiter.prepare(kept, NO_LIMITS, os.getpid())
            left = await limiter.prepare(swept, NO_LIMITS, os.getpid())
            await limiter.sweep({kept})
            assert await limiter.reopen(kept, scope.placement) is not None
            if limiter.kind is not PlacementKind.NONE:
                assert await limiter.reopen(swept, left.placement) is None
            await scope.remove()

    async def check_sweep_of_nothing_is_fine(self) -> None:
        """Sweep also before there ever was a job."""
        async with self._make() as limiter:
            await limiter.sweep([])

    async def check_close_leaves_jobs_alone(self) -> None:
        """Leave jobs alone when closing, which can be done twice."""
        async with self._make() as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, NO_LIMITS, os.getpid())
            await limiter.close()
            assert await limiter.reopen(job, scope.placement) is not None
            await scope.remove()
            await limiter.close()


async def _ended_process() -> int:
    """Return the pid of a process that is no more; the kernel does not give it away again so soon."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return process.pid
