"""The files that each controller writes and reads, on directories posing as cgroups of v1 and v2."""

from pathlib import Path

import pytest

from worker.cgroups import kernel_files
from worker.cgroups.cgroup import Cgroup
from worker.cgroups.controllers import (
    cpu,
    cpuacct,
    memory,
    pids,
)
from worker.cgroups.controllers.all_controllers import CONTROLLERS
from worker.cgroups.controllers.controller import Controller
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.settings import write_new
from worker.cgroups.usage import read_usage
from worker.core.errors import LimitsRejected, LimitsUnsupported
from worker.core.model.limits import (
    CpuLimit,
    MemoryLimit,
    ResourceLimits,
    ResourceUsage,
)

UNLIMITED_V1 = "9223372036854771712\n"

CPU_STAT_V1 = "nr_periods 12\nnr_throttled 7\nthrottled_time 812345678\nnr_bursts 0\nburst_time 0\n"
CPU_STAT_V2 = """\
usage_usec 401234
user_usec 300000
system_usec 101234
nice_usec 0
nr_periods 12
nr_throttled 7
throttled_usec 812345
"""


def posing_cgroup(directory: Path, version: Version, **files: str) -> Cgroup:
    """Return a directory with these files as a cgroup; "_" in a name stands for the first dot."""
    for name, content in files.items():
        (directory / name.replace("_", ".", 1)).write_text(content)
    return Cgroup(directory, version)


def apply(controller: Controller, cgroup: Cgroup, limits: ResourceLimits) -> None:
    """Set the limits of a new cgroup."""
    write_new(controller.settings(cgroup, limits))


def content(cgroup: Cgroup, name: str) -> str | None:
    """Return the content of a file of the cgroup."""
    return kernel_files.read(cgroup.path / name)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ResourceLimits(), []),
        (ResourceLimits(cpu=CpuLimit(weight=1)), ["cpu"]),
        (ResourceLimits(cpu=CpuLimit(quota=1), pids=1), ["cpu", "pids"]),
        (ResourceLimits(memory=MemoryLimit(swap_max=0)), ["memory"]),
        (ResourceLimits(memory=MemoryLimit(high=1)), ["memory"]),
    ],
)
def test_a_controller_is_requested_only_by_its_own_limits(
    limits: ResourceLimits, expected: list[str]
) -> None:
    """Zero is a limit; None is not."""
    assert expected == [controller.name for controller in CONTROLLERS if controller.requested(limits)]


@pytest.mark.parametrize(("quota", "expected"), [(0.01, "1000"), (0.5, "50000"), (2.25, "225000")])
def test_cpu_quota_is_a_fraction_of_the_period(tmp_path: Path, quota: float, expected: str) -> None:
    """Cores become microseconds per 100 ms."""
    limits = ResourceLimits(cpu=CpuLimit(quota=quota))
    v1 = posing_cgroup(tmp_path, Version.V1, cpu_cfs_quota_us="", cpu_cfs_period_us="", cpu_max="")
    apply(cpu, v1, limits)
    apply(cpu, Cgroup(tmp_path, Version.V2), limits)
    assert "100000" == content(v1, "cpu.cfs_period_us")
    assert expected == content(v1, "cpu.cfs_quota_us")
    assert f"{expected} 100000" == content(v1, "cpu.max")


@pytest.mark.parametrize(("weight", "shares"), [(1, "10"), (100, "1024"), (10000, "102400")])
def test_cpu_weight_keeps_its_proportion_to_the_default(tmp_path: Path, weight: int, shares: str) -> None:
    """Weight 100 is the default of v2 and 1024 shares that of v1."""
    limits = ResourceLimits(cpu=CpuLimit(weight=weight))
    cgroup = posing_cgroup(tmp_path, Version.V1, cpu_shares="", cpu_weight="")
    apply(cpu, cgroup, limits)
    apply(cpu, Cgroup(tmp_path, Version.V2), limits)
    assert shares == content(cgroup, "cpu.shares")
    assert str(weight) == content(cgroup, "cpu.weight")


def test_memory_limits_of_v2_are_written_unchanged(tmp_path: Path) -> None:
    """Core uses the terms of v2."""
    cgroup = posing_cgroup(tmp_path, Version.V2, memory_max="", memory_high="")
    (tmp_path / "memory.swap.max").touch()
    apply(memory, cgroup, ResourceLimits(memory=MemoryLimit(max=300, high=200, swap_max=0)))
    assert ("300", "200", "0") == tuple(
        content(cgroup, f"memory.{name}") for name in ("max", "high", "swap.max")
    )


def test_swap_limit_of_v1_includes_memory(tmp_path: Path) -> None:
    """swap_max is the swap in addition to memory, whereas memsw is the sum."""
    cgroup = posing_cgroup(tmp_path, Version.V1, memory_limit_in_bytes="")
    (tmp_path / "memory.memsw.limit_in_bytes").touch()
    apply(memory, cgroup, ResourceLimits(memory=MemoryLimit(max=300, swap_max=100)))
    assert "300" == content(cgroup, "memory.limit_in_bytes")
    assert "400" == content(cgroup, "memory.memsw.limit_in_bytes")


def test_memory_limit_of_v1_does_not_limit_swap(tmp_path: Path) -> None:
    """Without a swap limit swap is unlimited, as in v2."""
    cgroup = posing_cgroup(tmp_path, Version.V1, memory_limit_in_bytes=UNLIMITED_V1)
    apply(memory, cgroup, ResourceLimits(memory=MemoryLimit(max=1 << 62)))
    assert (content(cgroup, "memory.limit_in_bytes") or "").startswith(str(1 << 62))


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("swap_max", [0, 100])
def test_swap_limit_needs_swap_accounting(tmp_path: Path, version: Version, swap_max: int) -> None:
    """Even a limit of 0 cannot be guaranteed without it, since swap may be enabled later."""
    cgroup = posing_cgroup(tmp_path, version, memory_limit_in_bytes="", memory_max="")
    with pytest.raises(LimitsUnsupported, match=r"limits\.memory\.swap_max: .*swapaccount=1"):
        apply(memory, cgroup, ResourceLimits(memory=MemoryLimit(max=300, swap_max=swap_max)))
    assert "" == content(cgroup, "memory.limit_in_bytes")


def test_a_rejected_write_names_file_data_and_reason(tmp_path: Path) -> None:
    """The error contains what the kernel received and returned."""
    cgroup = Cgroup(tmp_path, Version.V1)
    with pytest.raises(
        LimitsRejected, match=rf"{tmp_path}/pids\.max: No such file or directory, writing '7'"
    ):
        apply(pids, cgroup, ResourceLimits(pids=7))


def test_usage_of_v1_is_reported_in_the_units_of_v2(tmp_path: Path) -> None:
    """Nanoseconds become microseconds."""
    cgroup = posing_cgroup(
        tmp_path,
        Version.V1,
        cpu_stat=CPU_STAT_V1,
        cpuacct_usage="401234567\n",
        memory_usage_in_bytes="4096\n",
        memory_max_usage_in_bytes="8192\n",
        pids_current="3\n",
    )
    expected = ResourceUsage(
        cpu_usec=401234, throttled_usec=812345, memory_current=4096, memory_peak=8192, pids_current=3
    )
    assert expected == read_usage({controller.name: cgroup for controller in CONTROLLERS}, None)


def test_usage_of_v2_needs_no_cpu_controller_for_cpu_time(tmp_path: Path) -> None:
    """A cgroup without controllers has cpu.stat with only the times; before 5.19 there is no peak."""
    cgroup = posing_cgroup(tmp_path, Version.V2, cpu_stat=CPU_STAT_V2, memory_current="4096\n")
    assert ResourceUsage(cpu_usec=401234) == cpuacct.usage(cgroup, ResourceUsage())
    assert ResourceUsage(throttled_usec=812345) == cpu.usage(cgroup, ResourceUsage())
    assert ResourceUsage(memory_current=4096) == memory.usage(cgroup, ResourceUsage())


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda controller: controller.name)
@pytest.mark.parametrize("version", Version)
def test_usage_of_a_removed_cgroup_is_unknown(
    tmp_path: Path, controller: Controller, version: Version
) -> None:
    """Unknown is None, not zero."""
    assert ResourceUsage() == controller.usage(Cgroup(tmp_path / "gone", version), ResourceUsage())


def test_oom_events_are_returned_only_where_the_kernel_counts_them(tmp_path: Path) -> None:
    """The spawner never receives the path of a missing file."""
    cgroup = posing_cgroup(tmp_path, Version.V2)
    assert memory.oom_events(cgroup) is None
    (tmp_path / "memory.events").touch()
    assert f"{tmp_path}/memory.events" == memory.oom_events(cgroup)


@pytest.mark.parametrize(("text", "expected"), [("42\n", 42), ("max\n", None), ("", None), ("-1\n", None)])
def test_count_is_a_number_or_none(tmp_path: Path, text: str, expected: int | None) -> None:
    """The kernel's words for "no limit" are not numbers."""
    (tmp_path / "file").write_text(text)
    assert expected == kernel_files.read_count(tmp_path / "file")


def test_table_skips_lines_of_other_formats(tmp_path: Path) -> None:
    """Only lines of a key and a number are returned."""
    (tmp_path / "file").write_text("low 0\nfull avg10=0.00 total=12\n\noom_kill 2\nnegative -1\n")
    assert {"low": 0, "oom_kill": 2} == kernel_files.read_table(tmp_path / "file")


@pytest.mark.parametrize(
    ("stat", "dropped"),
    [
        ("total_cache 0\ntotal_rss 0\ntotal_pgfault 117\n", False),
        ("total_cache 4096\ntotal_rss 0\ntotal_pgfault 117\n", True),
        ("total_cache 0\ntotal_rss 8192\ntotal_pgfault 117\n", True),
        ("total_cache 0\ntotal_rss 0\ntotal_pgfault 0\n", True),
    ],
    ids=["empty", "cache", "sums older than the exit", "no sums yet"],
)
async def test_page_cache_is_dropped_unless_it_is_certainly_empty(
    tmp_path: Path, stat: str, *, dropped: bool
) -> None:
    """Sums that the kernel has not updated yet do not prove that there are no pages."""
    drop = tmp_path / "memory.force_empty"
    drop.touch()
    (tmp_path / "memory.stat").write_text(stat)
    (tmp_path / "memory.usage_in_bytes").write_text("249856\n")
    await memory.drop_cache(Cgroup(str(tmp_path), Version.V1))
    assert ("0" if dropped else "") == drop.read_text()
