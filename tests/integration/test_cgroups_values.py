"""The values of limits in the files of this very kernel: written, replaced, set back and refused."""

import os

import pytest

from worker.cgroups.hierarchy.hierarchy import Version
from worker.core.errors import LimitsRejected, LimitsUnsupported
from worker.core.model.job import JobId, new_job_id
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits

from ..support.cgroups import (
    HIERARCHY,
    MIB,
    ROOTS,
    cgroups_of,
    limiter_named,
    needs_cgroups,
)

pytestmark = needs_cgroups
needs_v1 = pytest.mark.skipif(
    "memory" in HIERARCHY.unified_controllers, reason="cgroup v2 can do what v1 cannot"
)

MEMORY = ("memory.limit_in_bytes", "memory.max")
SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")
PIDS = ("pids.max", "pids.max")


def said(job: JobId, parent: str, v1: str, v2: str) -> str:
    """Return what a kernel file of a job says, which has one name on v1 and another on v2."""
    home = ROOTS[v2.partition(".")[0]]
    name = v1 if home.version is Version.V1 else v2
    return (home.base / parent / str(job) / name).read_text().strip()


def swap_sum(memory_max: int, swap_max: int) -> str:
    """Return what the kernel says about a swap limit: v1 counts it together with memory."""
    both = memory_max + swap_max if ROOTS["memory"].version is Version.V1 else swap_max
    return str(both)


async def test_limits_are_in_place_before_anything_runs(parent: str) -> None:
    """Each limit can be read back from the kernel as soon as prepare has returned."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        limits = ResourceLimits(
            cpu=CpuLimit(quota=0.5, weight=200),
            memory=MemoryLimit(max=64 * MIB, swap_max=16 * MIB),
            pids=20,
        )
        await limiter.prepare(job, limits, os.getpid())
        quota = said(job, parent, "cpu.cfs_quota_us", "cpu.max")
        assert "50000" == quota.removesuffix(" 100000")
        weight = said(job, parent, "cpu.shares", "cpu.weight")
        assert ("2048" if ROOTS["cpu"].version is Version.V1 else "200") == weight
        assert str(64 * MIB) == said(job, parent, *MEMORY)
        assert swap_sum(64 * MIB, 16 * MIB) == said(job, parent, *SWAP)
        assert "20" == said(job, parent, *PIDS)


@pytest.mark.parametrize(
    "limits",
    [
        ResourceLimits(cpu=CpuLimit(quota=0.01, weight=1)),
        ResourceLimits(cpu=CpuLimit(quota=65536, weight=10000)),
        ResourceLimits(memory=MemoryLimit(max=1)),
        ResourceLimits(memory=MemoryLimit(max=(1 << 63) - 1, swap_max=(1 << 63) - 1)),
        ResourceLimits(memory=MemoryLimit(max=MIB, swap_max=0)),
        ResourceLimits(pids=1),
    ],
    ids=repr,
)
async def test_every_value_that_the_core_lets_pass_is_taken_by_the_kernel(
    limits: ResourceLimits, parent: str
) -> None:
    """The ends of the ranges of core.limits are within those of the kernel."""
    async with limiter_named(parent) as limiter:
        await (await limiter.prepare(new_job_id(), limits, os.getpid())).remove()


async def test_memory_and_swap_are_raised_and_lowered_in_an_order_that_the_kernel_takes(
    parent: str,
) -> None:
    """Neither limit of v1 may pass the other at any moment, so the order depends on the direction."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        for size in (16 * MIB, 64 * MIB, 8 * MIB):
            await scope.update(ResourceLimits(memory=MemoryLimit(max=size, swap_max=MIB)))
            assert str(size) == said(job, parent, *MEMORY)
            assert swap_sum(size, MIB) == said(job, parent, *SWAP)


async def test_limits_that_are_not_asked_for_any_more_are_lifted(parent: str) -> None:
    """An update replaces all limits; none is left over from before."""
    async with limiter_named(parent) as limiter:
        job, plain = new_job_id(), new_job_id()
        limits = ResourceLimits(cpu=CpuLimit(0.5, 50), memory=MemoryLimit(max=MIB, swap_max=0), pids=5)
        scope = await limiter.prepare(job, limits, os.getpid())
        await limiter.prepare(plain, ResourceLimits(), os.getpid())
        reopened = await limiter.reopen(job, scope.placement)
        assert reopened is not None
        await reopened.update(ResourceLimits())
        for names in (
            MEMORY,
            SWAP,
            PIDS,
            ("cpu.cfs_quota_us", "cpu.max"),
            ("cpu.shares", "cpu.weight"),
        ):
            assert said(plain, parent, *names) == said(job, parent, *names)
        await scope.remove()


async def test_update_that_the_kernel_refuses_changes_nothing(parent: str) -> None:
    """What was written before the refusal is set back, in the opposite order."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        before = ResourceLimits(cpu=CpuLimit(0.5), memory=MemoryLimit(max=64 * MIB, swap_max=MIB))
        scope = await limiter.prepare(job, before, os.getpid())
        memory = MemoryLimit(max=16 * MIB, swap_max=4 * MIB)
        refused = ResourceLimits(cpu=CpuLimit(0.2), memory=memory, pids=1 << 62)
        with pytest.raises(LimitsRejected, match=r"pids\.max"):
            await scope.update(refused)
        quota = said(job, parent, "cpu.cfs_quota_us", "cpu.max")
        assert "50000" == quota.removesuffix(" 100000")
        assert str(64 * MIB) == said(job, parent, *MEMORY)
        assert swap_sum(64 * MIB, MIB) == said(job, parent, *SWAP)
        assert "max" == said(job, parent, *PIDS)


async def test_what_the_kernel_refuses_names_file_and_data_and_leaves_nothing(parent: str) -> None:
    """More pids than the kernel can count is its own refusal, passed on as it is."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        with pytest.raises(
            LimitsRejected, match=r"pids\.max: Invalid argument, writing '4611686018427387904'"
        ):
            await limiter.prepare(job, ResourceLimits(cpu=CpuLimit(quota=1), pids=1 << 62), os.getpid())
        assert [] == cgroups_of(job, parent)


@needs_v1
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ResourceLimits(memory=MemoryLimit(max=MIB, high=MIB)), "limits.memory.high: cgroup v1"),
        (ResourceLimits(memory=MemoryLimit(swap_max=MIB)), "limits.memory.swap_max: cgroup v1"),
    ],
)
async def test_limits_that_v1_cannot_enforce_are_refused(
    limits: ResourceLimits, reason: str, parent: str
) -> None:
    """No limit is dropped in silence, and a refusal leaves no group behind."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        with pytest.raises(LimitsUnsupported, match=reason):
            await limiter.prepare(job, limits, os.getpid())
        assert [] == cgroups_of(job, parent)
