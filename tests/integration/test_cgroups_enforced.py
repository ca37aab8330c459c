"""The kernel enforces the limits, and nothing remains afterwards; on the host that the tests run on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.cgroups.controllers import memory
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.scope import CgroupScope
from worker.core.errors import InvalidJobSpec
from worker.core.model.job import new_job_id
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)

from ..support.cgroups import (
    MIB,
    ROOTS,
    directories,
    parents_of,
)


def needs(controller: str) -> pytest.MarkDecorator:
    """Skip where a controller cannot be used."""
    reason = f"this process cannot use the {controller} controller"
    return pytest.mark.skipif(controller not in ROOTS, reason=reason)


pytestmark = needs("pids")

JOIN = 'for cgroup; do echo $$ > "$cgroup/cgroup.procs"; done; exec sh -c "$CODE"'


def run_inside(scope: CgroupScope, code: str) -> "subprocess.Popen[bytes]":
    """Start a shell in the cgroups of a scope; it joins all of them before it executes the code."""
    return subprocess.Popen(
        ["/bin/sh", "-c", JOIN, "sh", *directories(scope.placement)],
        env={"PYTHON": sys.executable, "CODE": code, "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@asynccontextmanager
async def scope_with(parent: str, limits: ResourceLimits) -> AsyncIterator[CgroupScope]:
    """Create a job's cgroups, and remove what remains of them."""
    limiter = CgroupLimiter(parent)
    scope = await limiter.prepare(new_job_id(), limits, os.getpid())
    try:
        yield scope
    finally:
        if scope.unified and scope.unified.has("cgroup.kill"):  # a failed test may have left its job
            scope.unified.set("cgroup.kill", 1)
        await scope.remove()
        await limiter.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """Return a directory on a file system that has a disk of its own."""
    if os.major(tmp_path.stat().st_dev) == 0:
        pytest.skip(f"{tmp_path} is not on a block device")
    return tmp_path


@needs("cpu")
async def test_a_busy_loop_gets_no_more_than_its_quota(parent: str) -> None:
    """A fifth of a core for two processes together, within 15 %."""
    async with scope_with(parent, ResourceLimits(cpu=CpuLimit(quota=0.2))) as scope:
        hog = '"$PYTHON" -c "import time\nwhile time.process_time() < 0.25: pass"'
        begin = time.monotonic()
        run_inside(scope, f"{hog} & {hog}; wait").communicate()
        elapsed = time.monotonic() - begin
        used = (await scope.usage()).cpu_usec
        assert used is not None
        assert used >= 500_000
        # At the start there is one quota of 20 ms in addition to the rate.
        assert used / 1e6 - 0.02 <= 0.2 * 1.15 * elapsed


async def test_a_fork_bomb_does_not_exceed_its_limit(parent: str) -> None:
    """However many it forks, there are never more than twenty."""
    bomb = """
import os
children = 0
try:
    while True:
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
        children += 1
except BlockingIOError:
    print(children, flush=True)
os.read(0, 1)
"""
    async with scope_with(parent, ResourceLimits(pids=20)) as scope:
        job = run_inside(scope, f"exec \"$PYTHON\" -c '{bomb}'")
        assert job.stdout is not None
        assert b"19\n" == job.stdout.readline()
        assert 20 == (await scope.usage()).pids_current
        job.communicate(b"\n" * 20)


@needs("io")
@pytest.mark.parametrize(
    ("rate", "command", "least"),
    [
        ({"write_bytes_per_second": 4 * MIB}, "dd if=/dev/zero of=file bs=1M count=8 oflag=direct", 8 / 4),
        ({"read_bytes_per_second": 4 * MIB}, "dd if=file of=/dev/null bs=1M count=8 iflag=direct", 8 / 4),
        (
            {"write_operations_per_second": 50},
            "dd if=/dev/zero of=file bs=4k count=100 oflag=direct",
            100 / 50,
        ),
    ],
    ids=["write", "read", "operations"],
)
async def test_direct_io_is_no_faster_than_its_rate(
    on_disk: Path, parent: str, rate: dict[str, int], command: str, least: float
) -> None:
    """Within 20 %; the disk is given as a path on it."""
    (on_disk / "file").write_bytes(bytes(8 * MIB))
    os.sync()
    limits = ResourceLimits(io=(IoLimit(str(on_disk), **rate),))
    async with scope_with(parent, limits) as scope:
        begin = time.monotonic()
        job = run_inside(scope, f"cd {on_disk} && exec {command} 2>&1")
        output, _ = job.communicate()
        assert (0, True) == (job.returncode, time.monotonic() - begin >= 0.8 * least), output
        usage = await scope.usage()
        assert usage.io_read_bytes is not None
        assert usage.io_write_bytes is not None
        assert usage.io_read_bytes + usage.io_write_bytes >= 100 * 4096
        assert (usage.io_read_operations or 0) + (usage.io_write_operations or 0) >= 8


@needs("io")
async def test_io_is_counted_without_any_limit(on_disk: Path, parent: str) -> None:
    """Usage reports reads and writes also where there is no limit."""
    async with scope_with(parent, ResourceLimits()) as scope:
        run_inside(
            scope, f"dd if=/dev/zero of={on_disk}/file bs=1M count=2 oflag=direct 2>&1"
        ).communicate()
        written = (await scope.usage()).io_write_bytes
        assert written is not None
        assert written >= 2 * MIB


@needs("io")
async def test_a_rate_is_lifted_while_the_job_runs(on_disk: Path, parent: str) -> None:
    """Writing that would have taken hours finishes as soon as the limit is lifted."""
    crawl = ResourceLimits(io=(IoLimit(str(on_disk), write_bytes_per_second=4096),))
    async with scope_with(parent, crawl) as scope:
        job = run_inside(
            scope, f"echo; exec dd if=/dev/zero of={on_disk}/file bs=1M count=16 oflag=direct 2>&1"
        )
        assert job.stdout is not None
        assert b"\n" == job.stdout.readline()
        await scope.update(ResourceLimits())
        job.communicate()
        assert 0 == job.returncode


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("/dev/null", "/dev/null is neither a block device nor on the file system of one; use /dev/DISK"),
        ("/proc", "/proc is on proc, which is not a block device; use MAJ:MIN of the disk"),
        ("/nonexistent/path", "/nonexistent/path is "),
        ("4095:77", "there is no block device 4095:77"),
        ("sda", "'sda' is neither MAJ:MIN nor an absolute path"),
    ],
)
async def test_a_name_that_is_not_a_disk_is_rejected(parent: str, device: str, reason: str) -> None:
    """The reason contains the name that the user gave, and no cgroup remains."""
    limits = ResourceLimits(io=(IoLimit(device, read_bytes_per_second=1),))
    with pytest.raises(InvalidJobSpec, match=f"limits.io: {reason}"):
        await CgroupLimiter(parent).prepare(new_job_id(), limits, os.getpid())


@needs("cpuset")
async def test_a_job_runs_on_its_cpus_and_moves_with_an_update(parent: str) -> None:
    """The job sees its affinity: the first of our CPUs, then the last."""
    cpus = sorted(os.sched_getaffinity(0))
    look = "import os\\nwhile True: print(sorted(os.sched_getaffinity(0)), flush=True); input()"
    async with scope_with(parent, ResourceLimits(cpuset=str(cpus[0]))) as scope:
        job = run_inside(scope, f'exec "$PYTHON" -c "$(printf \'{look}\')"')
        assert job.stdout is not None
        assert job.stdin is not None
        assert f"[{cpus[0]}]\n" == job.stdout.readline().decode()
        await scope.update(ResourceLimits(cpuset=str(cpus[-1])))
        job.stdin.write(b"\n")
        job.stdin.flush()
        assert f"[{cpus[-1]}]\n" == job.stdout.readline().decode()
        await scope.update(ResourceLimits())
        job.stdin.write(b"\n")
        job.stdin.flush()
        assert f"{cpus}\n" == job.stdout.readline().decode()
        job.kill()
        job.communicate()


@needs("cpuset")
async def test_missing_cpus_are_rejected_by_number(parent: str) -> None:
    """The kernel of v2 would accept them, and let the job run on any CPU."""
    with pytest.raises(
        InvalidJobSpec, match=r"limits\.cpuset: there is no CPU 4094-4095 here; available: 0"
    ):
        await CgroupLimiter(parent).prepare(new_job_id(), ResourceLimits(cpuset="0,4094-4095"), os.getpid())
    await CgroupLimiter(parent).close()


KILLED_AT_STEP = """
import asyncio, os, signal, sys
from worker.cgroups.limiter import CgroupLimiter
from worker.core.model.job import new_job_id
from worker.core.model.limits import CpuLimit, MemoryLimit, ResourceLimits

parent, left = sys.argv[1], int(sys.argv[2])

def count(event, arguments):
    global left
    if event in {"os.mkdir", "open"} and parent in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
limits = ResourceLimits(cpu=CpuLimit(0.5, 50), memory=MemoryLimit(1 << 26), pids=5)
asyncio.run(CgroupLimiter(parent).prepare(new_job_id(), limits, os.getpid()))
"""


async def test_cgroups_of_a_killed_server_are_removed_by_the_next(parent: str) -> None:
    """Wherever it is killed, the next sweep removes them; the fixture checks that none remains."""
    for step in range(1, 60, 4):
        died = subprocess.run([sys.executable, "-c", KILLED_AT_STEP, parent, str(step)], check=False)
        limiter = CgroupLimiter(parent)
        await limiter.sweep([])
        assert [] == [job for place in parents_of(parent) for job in place.glob("*-*")]
        if died.returncode == 0:
            break
        assert -signal.SIGKILL == died.returncode
    await CgroupLimiter(parent).close()


@needs("memory")
async def test_page_cache_does_not_keep_a_cgroup_allocated(on_disk: Path, parent: str) -> None:
    """The page cache of a job is reclaimed; each page would keep its cgroup as a dying one."""
    async with scope_with(parent, ResourceLimits(memory=MemoryLimit(max=64 * MIB))) as scope:
        cgroup = scope.controllers["memory"]
        command = f"dd if=/dev/zero of={on_disk}/file bs=1M count=8 conv=fsync 2>&1"
        run_inside(scope, command).communicate()
        before = (await scope.usage()).memory_current
        await memory.drop_cache(cgroup)
        after = (await scope.usage()).memory_current
        assert before is not None
        assert after is not None
        assert (True, True) == (before >= 8 * MIB, after < 4 * MIB)
