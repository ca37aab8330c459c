"""Jobs in the cgroups of the host that the tests run on: placed, counted, isolated, and removed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from worker.cgroups.accounting import Accounting
from worker.cgroups.hierarchy.hierarchy import CPU_TIME, V1_NAMES
from worker.cgroups.scope import CgroupScope
from worker.core.errors import LimitsRejected
from worker.core.model.job import new_job_id
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits
from worker.core.ports import Placement, ResourceLimiter
from worker.core.testing.limiter_contract import LimiterContract

from ..support.cgroups import (
    HIERARCHY,
    MIB,
    ROOTS,
    cgroups_of,
    directories,
    limiter_named,
    needs_cgroups,
)

pytestmark = needs_cgroups

HOG = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.4: pass"
JOIN = 'for cgroup; do echo $$ > "$cgroup/cgroup.procs"; done; exec "$PYTHON" -c "$CODE"'


def run_inside(placement: Placement, code: str) -> subprocess.Popen[bytes]:
    """Start Python in the placement; it joins all cgroups before it is executed."""
    return subprocess.Popen(
        ["/bin/sh", "-c", JOIN, "sh", *directories(placement)],
        env={"PYTHON": sys.executable, "CODE": code},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def lines_of(file: str) -> list[str]:
    """Return the lines of a kernel file."""
    return Path(file).read_text().splitlines()


@asynccontextmanager
async def any_limiter() -> AsyncIterator[ResourceLimiter]:
    """Return a limiter with a parent of its own."""
    async with limiter_named(f"worker-test-{uuid4().hex[:8]}") as limiter:
        yield limiter


@pytest.mark.parametrize("check", LimiterContract(any_limiter).checks(), ids=lambda check: check.__name__)
async def test_cgroup_limiter_passes_the_contract_suite(
    check: Callable[[], Coroutine[None, None, None]],
) -> None:
    """The real adapter passes the suite of the fake."""
    await check()


async def test_a_process_sees_itself_in_its_cgroups(parent: str) -> None:
    """A process that joins before exec is in the job's cgroup of every hierarchy."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        # In v1 these have a cgroup only with a limit.
        limits = ResourceLimits(cpu=CpuLimit(weight=50), cpuset="0", pids=99)
        scope = await limiter.prepare(job, limits, os.getpid())
        output, _ = run_inside(scope.placement, "print(open('/proc/self/cgroup').read())").communicate()
        cgroups = dict(line.split(":")[1:] for line in output.decode().split())
        names = [name for name in ROOTS if name in HIERARCHY.legacy and name != CPU_TIME]
        seen = {cgroups[V1_NAMES.get(name, name)] for name in names} | {cgroups[""]}
        assert {f"/{parent}/{job}"} == {name[name.index(f"/{parent}") :] for name in seen}


async def test_a_busy_loop_is_throttled_and_its_time_is_counted(parent: str) -> None:
    """The final usage includes at least the CPU time that the job measured itself, and the throttling."""
    async with limiter_named(parent) as limiter:
        scope = await limiter.prepare(new_job_id(), ResourceLimits(cpu=CpuLimit(quota=0.1)), os.getpid())
        hog = run_inside(scope.placement, HOG)
        hog.communicate()
        assert 0 == hog.returncode
        usage = await scope.usage()
        await scope.remove()
        assert usage.cpu_usec is not None
        assert usage.cpu_usec >= 400_000
        assert usage.throttled_usec is not None
        assert usage.throttled_usec > 0


async def test_an_oom_kill_is_counted_in_the_oom_events(parent: str) -> None:
    """A process that exceeds memory.max is killed, and the file of the placement counts it."""
    async with limiter_named(parent) as limiter:
        limits = ResourceLimits(memory=MemoryLimit(max=32 * MIB, swap_max=0))
        scope = await limiter.prepare(new_job_id(), limits, os.getpid())
        events = scope.placement.oom_events
        assert events is not None
        assert "oom_kill 0" in lines_of(events)
        glutton = run_inside(scope.placement, "bytearray(b'x') * (256 << 20)")
        glutton.communicate()
        assert -signal.SIGKILL == glutton.returncode
        assert "oom_kill 1" in lines_of(events)
        usage = await scope.usage()
        await scope.remove()
        assert usage.memory_peak is not None
        assert 16 * MIB < usage.memory_peak <= 32 * MIB


async def test_pids_are_limited_and_counted(parent: str) -> None:
    """A job cannot have more processes than its limit, and usage reports their number."""
    async with limiter_named(parent) as limiter:
        scope = await limiter.prepare(new_job_id(), ResourceLimits(pids=1), os.getpid())
        code = "import os\ntry: os.fork()\nexcept BlockingIOError: print('refused', flush=True)\ninput()"
        job = run_inside(scope.placement, code)
        assert job.stdout is not None
        assert b"refused\n" == job.stdout.readline()
        assert 1 == (await scope.usage()).pids_current
        job.communicate(b"\n")
        assert 0 == (await scope.usage()).pids_current


def nest_cgroups(placement: Placement) -> None:
    """Create cgroups below those of a job, as a job does that manages cgroups itself."""
    for directory in directories(placement):
        Path(directory, "a", "b").mkdir(parents=True)
        Path(directory, "c").mkdir()


@pytest.mark.parametrize("accounting", Accounting)
async def test_a_limit_that_is_set_later(parent: str, accounting: Accounting) -> None:
    """The running processes are limited and counted then, also after a restart; no cgroup remains."""
    async with limiter_named(parent, accounting) as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        nested = (
            "import os\nprint(os.fork() and os.getpid(), flush=True)\nopen('/proc/self/cgroup')\ninput()"
        )
        process = run_inside(scope.placement, nested)
        assert process.stdout is not None
        process.stdout.readline()
        limits = ResourceLimits(cpu=CpuLimit(quota=0.5), pids=7, cpuset="0")
        await scope.update(limits)
        found = await limiter.reopen(job, scope.placement)
        assert found is not None
        for each in (scope, found):
            usage = await each.usage()
            assert (2, True) == (usage.pids_current, usage.throttled_usec is not None)
        await found.update(replace(limits, pids=9))
        for path in cgroups_of(job, parent):
            assert str(process.pid) in lines_of(f"{path}/cgroup.procs")
        process.communicate(b"\n\n")
        await asyncio.to_thread(wait_until_empty, scope)
        await found.remove()
        assert [] == cgroups_of(job, parent)


async def test_a_limit_whose_cgroup_exists_already(parent: str) -> None:
    """A server that died while it moved the job left the cgroup: the next update moves all processes."""
    async with limiter_named(parent, Accounting.LIMITS_ONLY) as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        process = run_inside(scope.placement, "import os\nprint(os.fork() and 1, flush=True)\ninput()")
        assert process.stdout is not None
        process.stdout.readline()
        other = await limiter.reopen(job, scope.placement)
        assert other is not None
        await other.update(ResourceLimits(pids=7))
        made = next(path for path in cgroups_of(job, parent) if Path(path, "pids.max").exists())
        if made in directories(scope.placement):  # v2: the job was started in it
            process.communicate(b"\n\n")
            pytest.skip("the pids controller is not in v1")
        Path(os.path.dirname(made), "cgroup.procs").write_text(str(process.pid))
        for each in (scope, await limiter.reopen(job, scope.placement)):
            assert each is not None
            await each.update(ResourceLimits(pids=8))
            assert 2 == len(lines_of(f"{made}/cgroup.procs"))
            assert ["8"] == lines_of(f"{made}/pids.max")
        process.communicate(b"\n\n")
        await asyncio.to_thread(wait_until_empty, scope)
        await scope.remove()
        assert [] == cgroups_of(job, parent)


def wait_until_empty(scope: CgroupScope) -> None:
    """Return once no process is left."""
    while scope.populated():
        os.sched_yield()


async def test_cgroups_that_the_job_created_are_removed_too(parent: str) -> None:
    """remove() removes the tree below the job, in every hierarchy."""
    async with limiter_named(parent) as limiter:
        job = new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        nest_cgroups(scope.placement)
        await scope.remove()
        assert [] == cgroups_of(job, parent)


async def test_sweep_keeps_populated_cgroups_and_logs_that(
    parent: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A populated cgroup is never removed, not even by a worker that does not know the job."""
    async with limiter_named(parent) as limiter:
        job, empty = new_job_id(), new_job_id()
        scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
        await limiter.prepare(empty, ResourceLimits(), os.getpid())
        process = run_inside(scope.placement, "input()")
        try:
            await asyncio.to_thread(wait_until_inside, scope.placement, process.pid)
            await limiter.sweep([])
            assert str(process.pid) in lines_of(directories(scope.placement)[0] + "/cgroup.procs")
            assert [] == cgroups_of(empty, parent)
            with pytest.raises(LimitsRejected, match="already"):
                await limiter.prepare(job, ResourceLimits(), os.getpid())
        finally:
            process.communicate(b"\n")
        assert [True] == [str(job) in message for message in caplog.messages]


def wait_until_inside(placement: Placement, pid: int) -> None:
    """Return once the process has joined the last of its cgroups."""
    while str(pid) not in lines_of(directories(placement)[-1] + "/cgroup.procs"):
        os.sched_yield()


async def test_two_limiters_can_share_a_parent(parent: str) -> None:
    """The old and the new server of one state directory see the same jobs, and can close in any order."""
    async with limiter_named(parent) as old, limiter_named(parent) as new:
        job = new_job_id()
        scope = await old.prepare(job, ResourceLimits(), os.getpid())
        await new.close()
        found = await new.reopen(job, scope.placement)
        assert found is not None
        assert scope.placement == found.placement
        await old.close()
        await found.remove()
        await new.close()
        await (await old.prepare(new_job_id(), ResourceLimits(), os.getpid())).remove()


async def test_limiters_with_other_parents_do_not_see_each_other(parent: str) -> None:
    """Two workers on one machine never remove each other's jobs."""
    other = f"{parent}-other"
    async with limiter_named(parent) as mine, limiter_named(other) as theirs:
        job = new_job_id()
        scope = await theirs.prepare(job, ResourceLimits(), os.getpid())
        await mine.sweep([])
        assert [] == cgroups_of(job, parent)
        assert await theirs.reopen(job, scope.placement) is not None
        await scope.remove()


async def test_hundred_jobs_at_once_leave_nothing(parent: str) -> None:
    """Cgroups of many concurrent jobs are created and removed; the fixture checks that none remains."""
    async with limiter_named(parent) as limiter:
        limits = ResourceLimits(cpu=CpuLimit(quota=1), memory=MemoryLimit(max=MIB), pids=10)
        scopes = await asyncio.gather(
            *(limiter.prepare(new_job_id(), limits, os.getpid()) for _ in range(100))
        )
        await asyncio.gather(*(scope.remove() for scope in scopes))
