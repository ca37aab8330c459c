"""Limits on the control groups of this very machine, looked at from outside."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from worker.cgroups.hierarchy import CPU_TIME, LEGACY_NAMES, Hierarchy, Home, Version, detect
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.subtree import Subtree
from worker.core.errors import LimitsRejected, LimitsUnsupported
from worker.core.job import JobId, new_job_id
from worker.core.limits import CpuLimit, MemoryLimit, ResourceLimits
from worker.core.ports import Placement, ResourceLimiter
from worker.core.testing.limiter_contract import LimiterContract

HIERARCHY: Hierarchy = detect(os.getpid())
MIB = 1 << 20


def homes() -> Mapping[str, Home]:
    """Return where this process can make groups, by controller; nowhere without the rights."""
    try:
        return Subtree("worker-test", HIERARCHY).homes
    except LimitsUnsupported:
        return {}


HOMES = homes()
needs_io = pytest.mark.skipif("io" not in HOMES, reason="there is no io controller for this process")
needs_cpuset = pytest.mark.skipif(
    "cpuset" not in HOMES, reason="there is no cpuset controller for this process"
)

pytestmark = pytest.mark.skipif(
    not HOMES.keys() >= {"cpu", "memory", "pids"} or HIERARCHY.unified is None,
    reason="control groups can be made by root, or where they are delegated, only",
)
needs_v1 = pytest.mark.skipif(
    "memory" in HIERARCHY.unified_controllers, reason="cgroup v2 can do what v1 cannot"
)
needs_v2 = pytest.mark.skipif(
    "memory" not in HIERARCHY.unified_controllers, reason="the controllers are in cgroup v1 here"
)

HOG = "import time; start = time.process_time()\nwhile time.process_time() < start + 0.4: pass"
JOIN = 'for group; do echo $$ > "$group/cgroup.procs"; done; exec "$PYTHON" -c "$CODE"'


def directories(placement: Placement) -> list[str]:
    """Return all groups of a placement."""
    return [path for path in (placement.unified, *placement.legacy) if path]


def run_inside(placement: Placement, code: str) -> subprocess.Popen[bytes]:
    """Start Python in the placement; it joined all groups before it was executed."""
    return subprocess.Popen(
        ["/bin/sh", "-c", JOIN, "sh", *directories(placement)],
        env={"PYTHON": sys.executable, "CODE": code},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def bases() -> set[Path]:
    """Return where groups are made on this machine."""
    return {home.base for home in HOMES.values()} | {path for path in (HIERARCHY.unified,) if path}


def groups_of(job: JobId, parent: str) -> list[Path]:
    """Return the groups that a job has."""
    places = (base / parent / str(job) for base in bases())
    return [place for place in places if place.exists()]


@pytest.fixture
def parent() -> Iterator[str]:
    """Name a parent group that nobody else has, and insist that it is gone afterwards."""
    name = f"worker-test-{uuid4().hex[:8]}"
    yield name
    assert [] == [base / name for base in bases() if (base / name).exists()]


@asynccontextmanager
async def limiter_named(parent: str) -> AsyncIterator[CgroupLimiter]:
    """Make a limiter, and take down what is left of it."""
    limiter = CgroupLimiter(parent)
    try:
        yield limiter
    finally:
        await limiter.sweep([])
        await limiter.close()


def said(job: JobId, parent: str, v1: str, v2: str) -> str:
    """Return what a kernel file of a job says, which has one name on v1 and another on v2."""
    home = HOMES[v2.partition(".")[0]]
    name = v1 if home.version is Version.V1 else v2
    return (home.base / parent / str(job) / name).read_text().strip()


def swap_sum(memory_max: int, swap_max: int) -> str:
    """Return what the kernel says about a swap limit: v1 counts it together with memory."""
    both = memory_max + swap_max if HOMES["memory"].version is Version.V1 else swap_max
    return str(both)


MEMORY = ("memory.limit_in_bytes", "memory.max")
SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")
PIDS = ("pids.max", "pids.max")


def lines_of(file: str) -> list[str]:
    """Return the lines of a kernel file."""
    return Path(file).read_text().splitlines()


@asynccontextmanager
async def any_limiter() -> AsyncIterator[ResourceLimiter]:
    """Make a limiter with a parent of its own."""
    async with limiter_named(f"worker-test-{uuid4().hex[:8]}") as limiter:
        yield limiter


@pytest.mark.parametrize("check", LimiterContract(any_limiter).checks(), ids=lambda check: check.__name__)
def test_cgroup_limiter_fulfils_the_contract(check: Callable[[], Coroutine[None, None, None]]) -> None:
    """The real adapter passes the suite of the fake."""
    asyncio.run(check())


def test_limits_are_in_place_before_anything_runs(parent: str) -> None:
    """Each limit can be read back from the kernel as soon as prepare has returned."""

    async def scenario() -> None:
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
            assert ("2048" if HOMES["cpu"].version is Version.V1 else "200") == weight
            assert str(64 * MIB) == said(job, parent, *MEMORY)
            assert swap_sum(64 * MIB, 16 * MIB) == said(job, parent, *SWAP)
            assert "20" == said(job, parent, *PIDS)

    asyncio.run(scenario())


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
def test_every_value_that_the_core_lets_pass_is_taken_by_the_kernel(
    limits: ResourceLimits, parent: str
) -> None:
    """The ends of the ranges of core.limits are within those of the kernel."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            await (await limiter.prepare(new_job_id(), limits, os.getpid())).remove()

    asyncio.run(scenario())


def test_memory_and_swap_are_raised_and_lowered_in_an_order_that_the_kernel_takes(parent: str) -> None:
    """Neither limit of v1 may pass the other at any moment, so the order depends on the direction."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
            for size in (16 * MIB, 64 * MIB, 8 * MIB):
                await scope.update(ResourceLimits(memory=MemoryLimit(max=size, swap_max=MIB)))
                assert str(size) == said(job, parent, *MEMORY)
                assert swap_sum(size, MIB) == said(job, parent, *SWAP)

    asyncio.run(scenario())


def test_limits_that_are_not_asked_for_any_more_are_lifted(parent: str) -> None:
    """An update replaces all limits; none is left over from before."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_update_that_the_kernel_refuses_changes_nothing(parent: str) -> None:
    """What was written before the refusal is set back, in the opposite order."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_what_the_kernel_refuses_names_file_and_data_and_leaves_nothing(parent: str) -> None:
    """More pids than the kernel can count is its own refusal, passed on as it is."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job = new_job_id()
            with pytest.raises(
                LimitsRejected, match=r"pids\.max: Invalid argument, writing '4611686018427387904'"
            ):
                await limiter.prepare(job, ResourceLimits(cpu=CpuLimit(quota=1), pids=1 << 62), os.getpid())
            assert [] == groups_of(job, parent)

    asyncio.run(scenario())


@needs_v1
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ResourceLimits(memory=MemoryLimit(max=MIB, high=MIB)), "limits.memory.high: cgroup v1"),
        (ResourceLimits(memory=MemoryLimit(swap_max=MIB)), "limits.memory.swap_max: cgroup v1"),
    ],
)
def test_limits_that_v1_cannot_enforce_are_refused(
    limits: ResourceLimits, reason: str, parent: str
) -> None:
    """No limit is dropped in silence, and a refusal leaves no group behind."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job = new_job_id()
            with pytest.raises(LimitsUnsupported, match=reason):
                await limiter.prepare(job, limits, os.getpid())
            assert [] == groups_of(job, parent)

    asyncio.run(scenario())


def test_a_process_sees_itself_in_its_groups(parent: str) -> None:
    """What joins the placement before exec is in the job's group of every hierarchy."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
            output, _ = run_inside(scope.placement, "print(open('/proc/self/cgroup').read())").communicate()
            groups = dict(line.split(":")[1:] for line in output.decode().split())
            names = [name for name in HOMES if name in HIERARCHY.legacy and name != CPU_TIME]
            seen = {groups[LEGACY_NAMES.get(name, name)] for name in names} | {groups[""]}
            assert {f"/{parent}/{job}"} == {name[name.index(f"/{parent}") :] for name in seen}

    asyncio.run(scenario())


def test_a_busy_loop_is_throttled_and_its_time_is_counted(parent: str) -> None:
    """The final usage holds at least the CPU time that the job saw itself use, and the throttling."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            scope = await limiter.prepare(
                new_job_id(), ResourceLimits(cpu=CpuLimit(quota=0.1)), os.getpid()
            )
            hog = run_inside(scope.placement, HOG)
            hog.communicate()
            assert 0 == hog.returncode
            usage = await scope.usage()
            await scope.remove()
            assert usage.cpu_usec is not None
            assert usage.cpu_usec >= 400_000
            assert usage.throttled_usec is not None
            assert usage.throttled_usec > 0

    asyncio.run(scenario())


def test_an_oom_kill_is_counted_in_the_oom_events(parent: str) -> None:
    """What takes more than memory.max dies of SIGKILL, and the file of the placement says why."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_pids_are_limited_and_counted(parent: str) -> None:
    """A job cannot have more processes than it was given, and usage tells how many there are."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            scope = await limiter.prepare(new_job_id(), ResourceLimits(pids=1), os.getpid())
            code = (
                "import os\ntry: os.fork()\nexcept BlockingIOError: print('refused', flush=True)\ninput()"
            )
            job = run_inside(scope.placement, code)
            assert job.stdout is not None
            assert b"refused\n" == job.stdout.readline()
            assert 1 == (await scope.usage()).pids_current
            job.communicate(b"\n")
            assert 0 == (await scope.usage()).pids_current

    asyncio.run(scenario())


def nest_groups(placement: Placement) -> None:
    """Do as a job does that manages groups itself."""
    for directory in directories(placement):
        Path(directory, "a", "b").mkdir(parents=True)
        Path(directory, "c").mkdir()


def test_groups_that_the_job_made_itself_go_too(parent: str) -> None:
    """Removing takes down the tree below the job, in every hierarchy."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job = new_job_id()
            scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
            nest_groups(scope.placement)
            await scope.remove()
            assert [] == groups_of(job, parent)

    asyncio.run(scenario())


def test_sweep_leaves_what_runs_alone_and_says_so(parent: str, caplog: pytest.LogCaptureFixture) -> None:
    """A populated group is never touched, not even by a worker that does not know the job."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            job, empty = new_job_id(), new_job_id()
            scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
            await limiter.prepare(empty, ResourceLimits(), os.getpid())
            process = run_inside(scope.placement, "input()")
            try:
                await asyncio.to_thread(wait_until_inside, scope.placement, process.pid)
                await limiter.sweep([])
                assert str(process.pid) in lines_of(directories(scope.placement)[0] + "/cgroup.procs")
                assert [] == groups_of(empty, parent)
                with pytest.raises(LimitsRejected, match="already"):
                    await limiter.prepare(job, ResourceLimits(), os.getpid())
            finally:
                process.communicate(b"\n")
            assert [True] == [str(job) in message for message in caplog.messages]

    asyncio.run(scenario())


def wait_until_inside(placement: Placement, pid: int) -> None:
    """Return once the process has joined the last of its groups."""
    while str(pid) not in lines_of(directories(placement)[-1] + "/cgroup.procs"):
        os.sched_yield()


def test_two_limiters_share_a_parent_without_collision(parent: str) -> None:
    """The old and the new server of one state directory see the same jobs, and can close in any order."""

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_limiters_with_other_parents_do_not_see_each_other(parent: str) -> None:
    """Two workers on one machine never sweep each other's jobs."""

    async def scenario() -> None:
        other = f"{parent}-other"
        async with limiter_named(parent) as mine, limiter_named(other) as theirs:
            job = new_job_id()
            scope = await theirs.prepare(job, ResourceLimits(), os.getpid())
            await mine.sweep([])
            assert [] == groups_of(job, parent)
            assert await theirs.reopen(job, scope.placement) is not None
            await scope.remove()

    asyncio.run(scenario())


def test_hundred_jobs_at_once_leave_nothing(parent: str) -> None:
    """Many concurrent jobs get and lose their groups; the fixture sees that none is left."""

    async def scenario() -> None:
        async with limiter_named(parent) as limiter:
            limits = ResourceLimits(cpu=CpuLimit(quota=1), memory=MemoryLimit(max=MIB), pids=10)
            scopes = await asyncio.gather(
                *(limiter.prepare(new_job_id(), limits, os.getpid()) for _ in range(100))
            )
            await asyncio.gather(*(scope.remove() for scope in scopes))

    asyncio.run(scenario())
