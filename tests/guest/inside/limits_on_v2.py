"""The limiter on cgroup v2, in the guest: as root, and as a user in a delegated cgroup.

pytest runs it in the guest; on the host it is not collected.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from worker.cgroups.plugins import cgroups
from worker.core.errors import LimitBelowUsage
from worker.core.model.job import new_job_id
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
    ResourceUsage,
)
from worker.core.ports import ResourceLimiter, Scope
from worker.core.testing.limiter_contract import LimiterContract

MIB = 1 << 20
DISK = "254:0"
"""/dev/vda, the disk of the root file system."""

JOIN = 'echo $$ > "$GROUP/cgroup.procs"; exec "$@"'


@asynccontextmanager
async def any_limiter() -> AsyncIterator[ResourceLimiter]:
    """Return a limiter with its own parent, as the server has; check that nothing remains of it."""
    limiter = cgroups({"parent": f"limits-{uuid4().hex[:8]}"}, Path("/"))
    try:
        place = parent_of(await limiter.prepare(new_job_id(), ResourceLimits(), os.getpid()))
        await limiter.sweep([])
        yield limiter
    finally:
        await limiter.sweep([])
        await limiter.close()
    assert not place.exists()


@asynccontextmanager
async def scope_with(limits: ResourceLimits) -> AsyncIterator[Scope]:
    """Create the scope of a job, and remove it."""
    async with any_limiter() as limiter:
        scope = await limiter.prepare(new_job_id(), limits, os.getpid())
        yield scope
        await scope.remove()


def parent_of(scope: Scope) -> Path:
    """Return the cgroup that contains those of all jobs of a limiter."""
    return cgroup_of(scope).parent


def cgroup_of(scope: Scope) -> Path:
    """Return the only cgroup of a scope on cgroup v2."""
    assert () == tuple(scope.placement.legacy)
    assert scope.placement.unified is not None
    return Path(scope.placement.unified)


def read(scope: Scope, name: str) -> str:
    """Return the content of a kernel file of a job."""
    return (cgroup_of(scope) / name).read_text().strip()


def lines_of(file: str) -> list[str]:
    """Return the lines of a kernel file."""
    return Path(file).read_text().splitlines()


def run_inside(scope: Scope, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in the cgroup; it joins before it is executed."""
    return subprocess.Popen(
        ["/bin/sh", "-c", JOIN, "sh", *command],
        env={"PATH": os.environ["PATH"], "GROUP": str(cgroup_of(scope))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit code and the output of a command."""
    out, _ = process.communicate(timeout=120)
    return process.returncode, out.decode()


def used(usage: ResourceUsage, name: str) -> int:
    """Return a reading that must exist on this host."""
    value = getattr(usage, name)
    assert isinstance(value, int), (name, usage)
    return value


@pytest.mark.parametrize("check", LimiterContract(any_limiter).checks(), ids=lambda check: check.__name__)
async def test_the_contract(check: Callable[[], Coroutine[None, None, None]]) -> None:
    """The real adapter passes the suite of the fake, on cgroup v2 too."""
    await check()


async def test_every_limit_is_written_in_the_kernel_s_format() -> None:
    """Each limit, and each update, can be read back from the kernel."""
    limits = ResourceLimits(
        cpu=CpuLimit(quota=0.5, weight=200),
        memory=MemoryLimit(max=64 * MIB, high=48 * MIB, swap_max=16 * MIB),
        io=(IoLimit("/var", read_bytes_per_second=4 * MIB, write_operations_per_second=100),),
        pids=20,
        cpuset="1",
    )
    async with scope_with(limits) as scope:
        assert "50000 100000" == read(scope, "cpu.max")
        assert "200" == read(scope, "cpu.weight")
        assert str(64 * MIB) == read(scope, "memory.max")
        assert str(48 * MIB) == read(scope, "memory.high")
        assert str(16 * MIB) == read(scope, "memory.swap.max")
        assert f"{DISK} rbps={4 * MIB} wbps=max riops=max wiops=100" == read(scope, "io.max")
        assert "20" == read(scope, "pids.max")
        assert "1" == read(scope, "cpuset.cpus.effective")
        changes = ResourceLimits(
            cpu=CpuLimit(quota=1.5),
            memory=MemoryLimit(max=32 * MIB, high=24 * MIB),
            io=(IoLimit("/var", read_bytes_per_second=MIB),),
            pids=30,
            cpuset="0-1",
        )
        await scope.update(limits.updated(changes))
        assert "150000 100000" == read(scope, "cpu.max")
        assert str(32 * MIB) == read(scope, "memory.max")
        assert str(24 * MIB) == read(scope, "memory.high")
        assert f"{DISK} rbps={MIB} wbps=max riops=max wiops=100" == read(scope, "io.max")
        assert "30" == read(scope, "pids.max")
        assert "0-1" == read(scope, "cpuset.cpus.effective")


async def test_too_much_memory_ends_in_an_oom_kill() -> None:
    """A process that exceeds memory.max is killed, and the file of the placement counts it."""
    limits = ResourceLimits(memory=MemoryLimit(max=32 * MIB, swap_max=0))
    async with scope_with(limits) as scope:
        glutton = run_inside(scope, sys.executable, "-S", "-c", "b'x' * (256 << 20)")
        assert -signal.SIGKILL == finish(glutton)[0]
        assert scope.placement.oom_events is not None
        assert "oom_kill 1" in lines_of(scope.placement.oom_events)
        assert 16 * MIB < used(await scope.usage(), "memory_peak") <= 32 * MIB


async def test_a_limit_below_the_usage_kills_nothing() -> None:
    """The limit is rejected with the usage, and neither the limit nor the job changes."""
    keep = "block = bytearray(b'x' * (48 << 20)); print('ready', flush=True); input()"
    limits = ResourceLimits(memory=MemoryLimit(max=256 * MIB, swap_max=0))
    async with scope_with(limits) as scope:
        job = run_inside(scope, sys.executable, "-S", "-c", keep)
        assert job.stdout is not None
        assert b"ready\n" == job.stdout.readline()
        with pytest.raises(LimitBelowUsage, match=r"less than the job uses, [45]\d{7} bytes"):
            await scope.update(ResourceLimits(memory=MemoryLimit(max=24 * MIB, swap_max=0)))
        assert str(256 * MIB) == read(scope, "memory.max")
        job.communicate(b"\n", timeout=120)
        assert 0 == job.returncode
        await scope.update(ResourceLimits())
        assert "max" == read(scope, "memory.max")


async def test_cgroups_that_the_job_created_are_removed_too() -> None:
    """A job may manage cgroups below its own, with controllers; remove() removes all of them."""
    async with any_limiter() as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(pids=20), os.getpid())
        (cgroup_of(scope) / "cgroup.subtree_control").write_text("+pids")
        (cgroup_of(scope) / "a" / "b").mkdir(parents=True)
        await scope.remove()
        assert not cgroup_of(scope).exists()


async def test_many_jobs_leave_no_dying_cgroups() -> None:
    """Removed cgroups are freed by the kernel too, including their memory controller."""
    async with any_limiter() as limiter:
        limits = ResourceLimits(memory=MemoryLimit(max=64 * MIB), pids=10)
        for _ in range(5):
            scopes = await asyncio.gather(
                *(limiter.prepare(new_job_id(), limits, os.getpid()) for _ in range(40))
            )
            place = parent_of(scopes[0])
            await asyncio.gather(*(scope.remove() for scope in scopes))
        await asyncio.to_thread(wait_until_freed, place)


def wait_until_freed(cgroup: Path) -> None:
    """Return once the kernel has freed the removed cgroups below a cgroup, which it does asynchronously."""
    deadline = time.monotonic() + 60
    while "nr_dying_descendants 0" not in lines_of(str(cgroup / "cgroup.stat")):
        assert time.monotonic() < deadline, lines_of(str(cgroup / "cgroup.stat"))
        time.sleep(0.2)
