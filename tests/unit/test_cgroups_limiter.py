"""The limiters without a kernel: directories pose as cgroupfs, where no limit can be set."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import pytest

from worker.cgroups.accounting import Accounting
from worker.cgroups.hierarchy.hierarchy import Hierarchy
from worker.cgroups.limiter import CgroupLimiter
from worker.cgroups.none import NoLimiter
from worker.cgroups.scope import NOT_UNIFIED
from worker.core.errors import LimitsRejected, LimitsUnsupported
from worker.core.model.job import JobId, new_job_id
from worker.core.model.limits import (
    CpuLimit,
    IoLimit,
    MemoryLimit,
    ResourceLimits,
)
from worker.core.ports import PlacementKind, ResourceLimiter
from worker.core.testing.fake_limiter import FakeLimiter
from worker.core.testing.limiter_contract import LimiterContract


def posing_hybrid(directory: Path) -> Hierarchy:
    """Return the hierarchy of a hybrid host, made of plain directories."""
    legacy = {name: directory / name for name in ("cpu", "io", "memory", "pids")}
    for base in (*legacy.values(), directory / "unified"):
        base.mkdir()
    return Hierarchy(legacy, directory / "unified")


@asynccontextmanager
async def fake() -> AsyncIterator[ResourceLimiter]:
    """Return the fake."""
    yield FakeLimiter()


@asynccontextmanager
async def fake_with_cgroups() -> AsyncIterator[ResourceLimiter]:
    """Return the fake of kind CGROUPS."""
    yield FakeLimiter(kind=PlacementKind.CGROUPS)


@asynccontextmanager
async def none() -> AsyncIterator[ResourceLimiter]:
    """Return the limiter that refuses all limits."""
    yield NoLimiter("there is no cgroupfs")


@asynccontextmanager
async def posing() -> AsyncIterator[ResourceLimiter]:
    """Return the real limiter on posing directories."""
    with TemporaryDirectory() as directory:
        yield CgroupLimiter("worker", lambda _: posing_hybrid(Path(directory)))


CHECKS = [
    pytest.param(check, id=f"{make.__name__}-{check.__name__}")
    for make in (fake, fake_with_cgroups, none, posing)
    for check in LimiterContract(make).checks()
]


@pytest.mark.parametrize("check", CHECKS)
async def test_every_limiter_passes_the_contract_suite(
    check: Callable[[], Coroutine[None, None, None]],
) -> None:
    """Fake, none and cgroups pass the same suite."""
    await check()


def names_below(directory: Path) -> set[str]:
    """Return all directories below this one, relative to it."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize(
    ("accounting", "names"),
    [(Accounting.FULL, ["io", "memory"]), (Accounting.LIMITS_ONLY, ["memory"])],
)
async def test_a_job_without_limits_gets_the_cgroups_that_the_accounting_needs(
    tmp_path: Path, accounting: Accounting, names: list[str]
) -> None:
    """The cgroup is <base>/<parent>/<job id>, and close() removes the empty parents."""
    hierarchy = posing_hybrid(tmp_path)
    limiter = CgroupLimiter("worker.slice/jobs", lambda _: hierarchy, accounting)
    job = new_job_id()
    place = f"worker.slice/jobs/{job}"
    scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
    assert f"{tmp_path}/unified/{place}" == scope.placement.unified
    assert tuple(f"{tmp_path}/{name}/{place}" for name in names) == scope.placement.legacy
    await scope.remove()
    await limiter.close()
    assert not (names_below(tmp_path) & {f"{name}/worker.slice/jobs" for name in (*names, "unified")})


async def test_without_v2_a_job_always_has_a_cgroup(tmp_path: Path) -> None:
    """Its processes must be found."""
    hierarchy = Hierarchy({"pids": tmp_path})
    limiter = CgroupLimiter("worker", lambda _: hierarchy, Accounting.LIMITS_ONLY)
    job = new_job_id()
    scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
    assert (f"{tmp_path}/worker/{job}",) == scope.placement.legacy


async def test_joined_controllers_share_one_cgroup(tmp_path: Path) -> None:
    """A v1 directory appears once in the placement, and pure v1 adds a warning."""
    limiter = CgroupLimiter("worker", lambda _: Hierarchy({"cpu": tmp_path, "cpuacct": tmp_path}))
    job = new_job_id()
    scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
    assert scope.placement.unified is None
    assert (f"{tmp_path}/worker/{job}",) == scope.placement.legacy
    assert (NOT_UNIFIED,) == tuple(scope.warnings)


async def test_a_freezer_of_v1_is_used_where_there_is_no_v2(tmp_path: Path) -> None:
    """A cgroup of v2 has a freezer itself, so that a job needs no other cgroup for it."""
    (tmp_path / "freezer").mkdir()
    unified = posing_hybrid(tmp_path)
    legacy = {**unified.legacy, "freezer": tmp_path / "freezer"}
    job, name = new_job_id(), f"{tmp_path}/freezer/worker/"
    hybrid = CgroupLimiter("worker", lambda _: Hierarchy(legacy, unified.unified))
    scope = await hybrid.prepare(job, ResourceLimits(), os.getpid())
    assert f"{name}{job}" not in scope.placement.legacy
    await scope.remove()
    pure = CgroupLimiter("worker", lambda _: Hierarchy(legacy))
    scope = await pure.prepare(job, ResourceLimits(), os.getpid())
    assert f"{name}{job}" in scope.placement.legacy
    await scope.remove()
    assert not Path(f"{name}{job}").exists()


async def test_sweep_removes_only_cgroups_named_like_a_job(tmp_path: Path) -> None:
    """Cgroups that others created below or beside the parent are kept."""
    limiter = CgroupLimiter("worker", lambda _: posing_hybrid(tmp_path))
    strangers = {
        f"cpu/{uuid4()}",
        "cpu/worker/init.scope",
        f"cpu/worker/{str(uuid4()).upper()}",
        "memory/worker2",
    }
    for name in strangers:
        (tmp_path / name).mkdir(parents=True)
    job = new_job_id()
    (tmp_path / "memory/worker" / str(job)).mkdir(parents=True)
    before = names_below(tmp_path)
    await limiter.sweep([])
    assert {f"memory/worker/{job}"} == before - names_below(tmp_path)


@pytest.mark.parametrize(
    "parent", ["", "/", "/worker", "worker/", "a//b", "../worker", "a/..", ".", "a\0b"]
)
def test_parent_must_be_a_relative_path(parent: str) -> None:
    """A setting can never lead out of the base."""
    with pytest.raises(ValueError, match="is not the name of a control group"):
        CgroupLimiter(parent, lambda _: Hierarchy({}))


def test_host_without_cgroups_is_rejected_with_a_remedy() -> None:
    """The constructor raises, not the first job."""
    with pytest.raises(LimitsUnsupported, match="Delegate=yes"):
        CgroupLimiter("worker", lambda _: Hierarchy({}))


async def test_controller_that_is_not_writable_is_rejected_with_its_path(tmp_path: Path) -> None:
    """The path shows the administrator what to delegate; the other limits work."""
    hierarchy = Hierarchy({"cpu": tmp_path / "not ours", "pids": tmp_path})
    with pytest.raises(LimitsUnsupported, match=r"limits\.cpu: .*/not ours is not writable for uid"):
        await CgroupLimiter("worker", lambda _: hierarchy).prepare(
            new_job_id(), ResourceLimits(cpu=CpuLimit(1)), os.getpid()
        )


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ResourceLimits(io=(IoLimit("/dev/vda", read_bytes_per_second=1),)), r"limits\.io: "),
        (ResourceLimits(cpuset="0-1"), r"limits\.cpuset: "),
        (ResourceLimits(pids=5), r"limits\.pids: there is no pids controller here"),
        (ResourceLimits(memory=MemoryLimit(high=5)), r"limits\.memory\.high: .*v1"),
    ],
)
async def test_unenforceable_limit_is_rejected_and_leaves_nothing_behind(
    tmp_path: Path, limits: ResourceLimits, reason: str
) -> None:
    """Every limit is enforced or rejected; after a rejection there is no cgroup."""
    hierarchy = posing_hybrid(tmp_path)
    limiter = CgroupLimiter(
        "worker", lambda _: Hierarchy({"memory": hierarchy.legacy["memory"]}, hierarchy.unified)
    )
    job = new_job_id()
    with pytest.raises(LimitsUnsupported, match=reason):
        await limiter.prepare(job, limits, os.getpid())
    assert not any(str(job) in name for name in names_below(tmp_path))


async def test_limit_that_the_kernel_rejects_leaves_nothing_behind(tmp_path: Path) -> None:
    """The cgroups created before the rejection are removed."""
    limiter = CgroupLimiter("worker", lambda _: posing_hybrid(tmp_path))
    job = new_job_id()
    with pytest.raises(LimitsRejected, match=r"pids\.max"):
        await limiter.prepare(job, ResourceLimits(pids=5), os.getpid())
    assert not any(str(job) in name for name in names_below(tmp_path))


async def test_v2_controller_that_cannot_be_enabled_is_rejected_with_the_reason(tmp_path: Path) -> None:
    """Otherwise the job would run unlimited; without such a limit it may run."""
    limiter = CgroupLimiter("worker", lambda _: Hierarchy({}, tmp_path, frozenset({"pids"})))
    await (await limiter.prepare(new_job_id(), ResourceLimits(), os.getpid())).remove()
    with pytest.raises(LimitsUnsupported, match=rf"limits\.pids: .* here: {tmp_path}/"):
        await limiter.prepare(new_job_id(), ResourceLimits(pids=5), os.getpid())


async def test_v2_controllers_are_never_enabled_in_a_cgroup_with_processes(tmp_path: Path) -> None:
    """The kernel would accept cpu and pids there, and then no process could enter a cgroup below."""
    (tmp_path / "cgroup.type").write_text("domain\n")
    (tmp_path / "cgroup.procs").write_text("4711\n")
    (tmp_path / "cgroup.subtree_control").touch()
    limiter = CgroupLimiter("worker", lambda _: Hierarchy({}, tmp_path, frozenset({"cpu"})))
    await (await limiter.prepare(new_job_id(), ResourceLimits(), os.getpid())).remove()
    with pytest.raises(
        LimitsUnsupported, match=rf"limits\.cpu: .* {tmp_path} itself contains processes; move"
    ):
        await limiter.prepare(new_job_id(), ResourceLimits(cpu=CpuLimit(1)), os.getpid())
    assert "" == (tmp_path / "cgroup.subtree_control").read_text()


async def test_delegated_cgroup_is_vacated_before_controllers_are_enabled(tmp_path: Path) -> None:
    """The owner of a cgroup has to move its processes; here nothing moves, so the limit is rejected."""
    (tmp_path / "worker-server").mkdir()
    for name, text in (("cgroup.type", "domain"), ("cgroup.procs", "4711\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "worker-server/cgroup.procs").touch()
    limiter = CgroupLimiter(
        "worker", lambda _: Hierarchy({}, tmp_path, frozenset({"pids"}), delegated=True)
    )
    with pytest.raises(LimitsUnsupported, match="itself contains processes"):
        await limiter.prepare(new_job_id(), ResourceLimits(pids=5), os.getpid())
    assert "4711" == (tmp_path / "worker-server/cgroup.procs").read_text()


async def test_v2_controllers_are_enabled_from_the_base_down(tmp_path: Path) -> None:
    """A job gets a controller only if every cgroup above enables it; nothing is enabled twice."""
    own = tmp_path / "worker"
    own.mkdir()
    for directory, enabled in ((tmp_path, "cpu io\n"), (own, "io\n")):
        (directory / "cgroup.subtree_control").write_text(enabled)
    controllers = frozenset({"cpu", "io", "hugetlb"})
    await CgroupLimiter("worker", lambda _: Hierarchy({}, tmp_path, controllers)).prepare(
        new_job_id(), ResourceLimits(), os.getpid()
    )
    assert "cpu io\n" == (tmp_path / "cgroup.subtree_control").read_text()
    assert "+cpu" == (own / "cgroup.subtree_control").read_text()


async def test_jobs_are_placed_below_the_cgroup_of_their_parent_process(tmp_path: Path) -> None:
    """The jobs of a supervisor in its own systemd scope are there, wherever the server is."""
    scope_of_supervisor = tmp_path / "system.slice/worker-1.scope"
    scope_of_supervisor.mkdir(parents=True)
    supervisor = await asyncio.create_subprocess_exec("sleep", "1000")
    places = {os.getpid(): tmp_path, supervisor.pid: scope_of_supervisor}
    limiter = CgroupLimiter("w", lambda process: Hierarchy({}, places[process], top=tmp_path))
    job = new_job_id()
    scope = await limiter.prepare(job, ResourceLimits(), supervisor.pid)
    assert f"{scope_of_supervisor}/w/{job}" == scope.placement.unified
    await scope.remove()
    await limiter.close()
    assert not (scope_of_supervisor / "w").exists()
    supervisor.kill()
    await supervisor.wait()


async def test_scope_is_reopened_wherever_it_is(tmp_path: Path) -> None:
    """A job that was placed below another parent, under earlier settings, keeps its scope."""
    hierarchy = posing_hybrid(tmp_path)
    job = new_job_id()
    old = await CgroupLimiter("old", lambda _: hierarchy).prepare(job, ResourceLimits(), os.getpid())
    (tmp_path / "pids/old" / str(job)).mkdir(parents=True)  # as an update does
    (tmp_path / "pids/old" / str(job) / "pids.current").write_text("2\n")
    (tmp_path / "pids/old" / str(job) / "pids.max").write_text("9")
    limiter = CgroupLimiter("new", lambda _: hierarchy)
    found = await limiter.reopen(job, old.placement)
    assert found is not None
    assert old.placement == found.placement
    assert 2 == (await found.usage()).pids_current
    await found.update(ResourceLimits(pids=7))
    assert "7" == (tmp_path / "pids/old" / str(job) / "pids.max").read_text()
    with pytest.raises(LimitsUnsupported, match=r"limits\.cpuset: no control group of the job has the"):
        await found.update(ResourceLimits(cpuset="0"))


async def test_sweep_covers_the_systemd_scopes_of_all_workers(tmp_path: Path) -> None:
    """Also those of earlier supervisors, and of a user's systemd; known jobs are kept everywhere."""
    users = "user.slice/user-1000.slice/user@1000.service/app.slice"
    kept, left = str(new_job_id()), str(new_job_id())
    mine = {
        f"system.slice/worker-1-2.scope/w/{left}",
        f"{users}/worker-1-3.scope/w/{left}",
        f"w/{left}",
    }
    others = {
        f"system.slice/worker-1-2.scope/w/{kept}",
        f"system.slice/worker-1-2.scope/v/{left}",
        f"system.slice/nginx.service/w/{left}",
    }
    for name in mine | others:
        (tmp_path / name).mkdir(parents=True)
    limiter = CgroupLimiter("w", lambda _: Hierarchy({}, tmp_path, top=tmp_path))
    before = names_below(tmp_path)
    await limiter.sweep([JobId(UUID(kept))])
    assert mine == before - names_below(tmp_path)


async def test_cgroup_that_cannot_be_removed_is_left_to_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Removal stops after a number of attempts, and is logged."""
    limiter = CgroupLimiter("worker", lambda _: Hierarchy({"pids": tmp_path}))
    job = new_job_id()
    scope = await limiter.prepare(job, ResourceLimits(), os.getpid())
    stuck = tmp_path / "worker" / str(job) / "pids.current"
    stuck.write_text("2\n")  # a plain file prevents rmdir as a process would
    await scope.remove()
    assert [True] == [str(job) in message for message in caplog.messages]
    stuck.unlink()
    await limiter.sweep([])
    assert not stuck.parent.exists()


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (ResourceLimits(cpu=CpuLimit(quota=1)), "limits.cpu: "),
        (ResourceLimits(memory=MemoryLimit(max=1), pids=1), "limits.memory, limits.pids: "),
    ],
)
async def test_no_limiter_rejects_every_limit_by_name(limits: ResourceLimits, names: str) -> None:
    """No limit is dropped silently, and the reason is part of the error."""
    with pytest.raises(LimitsUnsupported, match=rf"^{names}.*not root"):
        await NoLimiter("not root").prepare(new_job_id(), limits, os.getpid())


async def test_no_limiter_rejects_updates() -> None:
    """A limit is never dropped silently, not in an update either."""
    scope = await NoLimiter("not root").prepare(new_job_id(), ResourceLimits(), os.getpid())
    with pytest.raises(LimitsUnsupported, match=r"^limits\.pids: .*not root"):
        await scope.update(ResourceLimits(pids=1))


async def test_no_limiter_warns_with_its_reason() -> None:
    """Status and doctor can show the user what is missing."""
    scope = await NoLimiter("not root").prepare(new_job_id(), ResourceLimits(), os.getpid())
    assert [True] == [warning.startswith("no cgroup: not root;") for warning in scope.warnings]


async def test_fake_records_the_requested_limits() -> None:
    """Tests can read the limits of each job, also after its scope was removed."""
    limiter = FakeLimiter()
    job, limits = new_job_id(), ResourceLimits(pids=5)
    await (await limiter.prepare(job, limits, os.getpid())).remove()
    expected: dict[JobId, ResourceLimits] = {job: limits}
    assert expected == limiter.limits


async def test_fake_rejects_limits_on_request() -> None:
    """The error path of a use case can be tested without a kernel."""
    with pytest.raises(LimitsRejected, match="no more"):
        await FakeLimiter(refuse="no more").prepare(new_job_id(), ResourceLimits(), os.getpid())
