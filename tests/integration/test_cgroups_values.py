"""The values of limits in the files of this kernel: written, replaced, rolled back and rejected."""

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
    "memory" in HIERARCHY.unified_controllers, reason="cgroup v2 has the limits that v1 lacks"
)

MEMORY = ("memory.limit_in_bytes", "memory.max")
SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")
PIDS = ("pids.max", "pids.max")


def value_in(job: JobId, parent: str, v1: str, v2: str) -> str:
    """Return the content of a kernel file of a job, which has one name in v1 and another in v2."""
    root = ROOTS[v2.partition(".")[0]]
    name = v1 if root.version is Version.V1 else v2
    return (root.base / parent / str(job) / name).read_text().strip()


def swap_sum(memory_max: int, swap_max: int) -> str:
    """Return how the kernel writes a swap limit: v1 counts swap together with memory."""
    both = memory_max + swap_max if ROOTS["memory"].version is Version.V1 else swap_max
    return str(both)


async def test_limits_are_in_place_before_anything_runs(parent: str) -> None:
    """Each limit can be read from the kernel as soon as prepare has returned."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        limits = ResourceLimits(
            cpu=CpuLimit(quota=0.5, weight=200),
            memory=MemoryLimit(max=64 * MIB, swap_max=16 * MIB),
            pids=20,
        )
        await limiter.prepare(job, limits, os.getpid())
        quota = value_in(job, parent, "cpu.cfs_quota_us", "cpu.max")
        assert "50000" == quota.removesuffix(" 100000")
        weight = value_in(job, parent, "cpu.shares", "cpu.weight")
        assert ("2048" if ROOTS["cpu"].version is Version.V1 else "200") == weight
        assert str(64 * MIB) == value_in(job, parent, *MEMORY)
        assert swap_sum(64 * MIB, 16 * MIB) == value_in(job, parent, *SWAP)
        assert "20" == value_in(job, parent, *PIDS)


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
async def test_the_kernel_accepts_every_value_that_the_core_accepts(
    limits: ResourceLimits, parent: str
) -> None:
    """The ends of the ranges in core.limits are within those of the kernel."""
    async with limiter_named(parent) as limiter:
        await (await limiter.prepare(new_job_id(), limits, os.getpid())).remove()


async def test_memory_and_swap_are_changed_in_an_order_that_the_kernel_accepts(
    parent: str,
) -> None:
    """Memory of v1 may never exceed the sum with swap, so the order depends on the direction."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        for size in (16 * MIB, 64 * MIB, 8 * MIB):
            await scope.update(ResourceLimits(memory=MemoryLimit(max=size, swap_max=MIB)))
            assert str(size) == value_in(job, parent, *MEMORY)
            assert swap_sum(size, MIB) == value_in(job, parent, *SWAP)


async def test_limits_that_are_no_longer_requested_are_lifted(parent: str) -> None:
    """An update replaces all limits; none remains from before."""
    async with limiter_named(parent) as limiter:
        job, plain = new_job_id(), new_job_id()
        limits = ResourceLimits(cpu=CpuLimit(0.5, 50), memory=MemoryLimit(max=MIB, swap_max=0), pids=5)
        scope = await limiter.prepare(job, limits, os.getpid())
        # A weight of 100 is the default; v1 has no cgroups of cpu and pids without a limit.
        await limiter.prepare(plain, ResourceLimits(cpu=CpuLimit(weight=100)), os.getpid())
        reopened = await limiter.reopen(job, scope.placement)
        assert reopened is not None
        await reopened.update(ResourceLimits())
        assert "max" == value_in(job, parent, *PIDS)
        for names in (
            MEMORY,
            SWAP,
            ("cpu.cfs_quota_us", "cpu.max"),
            ("cpu.shares", "cpu.weight"),
        ):
            assert value_in(plain, parent, *names) == value_in(job, parent, *names)
        await scope.remove()


async def test_update_that_the_kernel_rejects_changes_nothing(parent: str) -> None:
    """Settings written before the rejection are rolled back, in the opposite order."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        before = ResourceLimits(cpu=CpuLimit(0.5), memory=MemoryLimit(max=64 * MIB, swap_max=MIB))
        scope = await limiter.prepare(job, before, os.getpid())
        memory = MemoryLimit(max=16 * MIB, swap_max=4 * MIB)
        refused = ResourceLimits(cpu=CpuLimit(0.2), memory=memory, pids=1 << 62)
        with pytest.raises(LimitsRejected, match=r"pids\.max"):
            await scope.update(refused)
        quota = value_in(job, parent, "cpu.cfs_quota_us", "cpu.max")
        assert "50000" == quota.removesuffix(" 100000")
        assert str(64 * MIB) == value_in(job, parent, *MEMORY)
        assert swap_sum(64 * MIB, MIB) == value_in(job, parent, *SWAP)
        assert "max" == value_in(job, parent, *PIDS)


async def test_a_rejection_by_the_kernel_names_file_and_data(parent: str) -> None:
    """The kernel rejects more pids than it can count; its error is passed on, and no cgroup remains."""
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
async def test_limits_that_v1_cannot_enforce_are_rejected(
    limits: ResourceLimits, reason: str, parent: str
) -> None:
    """No limit is dropped silently, and a rejection leaves no cgroup behind."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        with pytest.raises(LimitsUnsupported, match=reason):
            await limiter.prepare(job, limits, os.getpid())
        assert [] == cgroups_of(job, parent)
