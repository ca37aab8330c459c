"""What each controller writes and reads, on directories posing as groups of v1 and v2."""

import asyncio
from pathlib import Path

import pytest

from worker.cgroups import kernel_files
from worker.cgroups.controllers import (
    cpu,
    cpuacct,
    memory,
    pids,
)
from worker.cgroups.controllers.table import CONTROLLERS, Controller, read_usage
from worker.cgroups.group import Group
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.settings import enforce
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


def posing_group(directory: Path, version: Version, **files: str) -> Group:
    """Return a directory with these files as a group; "_" in a name stands for the first dot."""
    for name, content in files.items():
        (directory / name.replace("_", ".", 1)).write_text(content)
    return Group(directory, version)


def apply(controller: Controller, group: Group, limits: ResourceLimits) -> None:
    """Set limits in a group as if it were a new one."""
    enforce(controller.settings(group, limits))


def content(group: Group, name: str) -> str | None:
    """Return what was written to a file of the group."""
    return kernel_files.read(group.path / name)


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
def test_a_controller_is_asked_by_its_own_limits_only(limits: ResourceLimits, expected: list[str]) -> None:
    """Zero is a limit too; None is none."""
    assert expected == [controller.name for controller in CONTROLLERS if controller.asked(limits)]


@pytest.mark.parametrize(("quota", "expected"), [(0.01, "1000"), (0.5, "50000"), (2.25, "225000")])
def test_cpu_quota_is_a_part_of_the_period(tmp_path: Path, quota: float, expected: str) -> None:
    """Cores become microseconds per 100 ms."""
    limits = ResourceLimits(cpu=CpuLimit(quota=quota))
    v1 = posing_group(tmp_path, Version.V1, cpu_cfs_quota_us="", cpu_cfs_period_us="", cpu_max="")
    apply(cpu, v1, limits)
    apply(cpu, Group(tmp_path, Version.V2), limits)
    assert "100000" == content(v1, "cpu.cfs_period_us")
    assert expected == content(v1, "cpu.cfs_quota_us")
    assert f"{expected} 100000" == content(v1, "cpu.max")


@pytest.mark.parametrize(("weight", "shares"), [(1, "10"), (100, "1024"), (10000, "102400")])
def test_cpu_weight_keeps_its_proportion_to_the_default(tmp_path: Path, weight: int, shares: str) -> None:
    """Weight 100 is the default of v2 and 1024 shares that of v1."""
    limits = ResourceLimits(cpu=CpuLimit(weight=weight))
    group = posing_group(tmp_path, Version.V1, cpu_shares="", cpu_weight="")
    apply(cpu, group, limits)
    apply(cpu, Group(tmp_path, Version.V2), limits)
    assert shares == content(group, "cpu.shares")
    assert str(weight) == content(group, "cpu.weight")


def test_memory_limits_of_v2_are_written_as_they_are(tmp_path: Path) -> None:
    """Core speaks the terms of v2."""
    group = posing_group(tmp_path, Version.V2, memory_max="", memory_high="")
    (tmp_path / "memory.swap.max").touch()
    apply(memory, group, ResourceLimits(memory=MemoryLimit(max=300, high=200, swap_max=0)))
    assert ("300", "200", "0") == tuple(
        content(group, f"memory.{name}") for name in ("max", "high", "swap.max")
    )


def test_swap_of_v1_is_counted_together_with_memory(tmp_path: Path) -> None:
    """swap_max is what there may be beyond max, whereas memsw is the sum."""
    group = posing_group(tmp_path, Version.V1, memory_limit_in_bytes="")
    (tmp_path / "memory.memsw.limit_in_bytes").touch()
    apply(memory, group, ResourceLimits(memory=MemoryLimit(max=300, swap_max=100)))
    assert "300" == content(group, "memory.limit_in_bytes")
    assert "400" == content(group, "memory.memsw.limit_in_bytes")


def test_memory_of_v1_alone_leaves_swap_alone(tmp_path: Path) -> None:
    """Without a swap limit there is none, as on v2."""
    group = posing_group(tmp_path, Version.V1, memory_limit_in_bytes=UNLIMITED_V1)
    apply(memory, group, ResourceLimits(memory=MemoryLimit(max=1 << 62)))
    assert (content(group, "memory.limit_in_bytes") or "").startswith(str(1 << 62))


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("swap_max", [0, 100])
def test_swap_limit_needs_swap_accounting(tmp_path: Path, version: Version, swap_max: int) -> None:
    """Even no swap cannot be promised without it, since swap may be switched on later."""
    group = posing_group(tmp_path, version, memory_limit_in_bytes="", memory_max="")
    with pytest.raises(LimitsUnsupported, match=r"limits\.memory\.swap_max: .*swapaccount=1"):
        apply(memory, group, ResourceLimits(memory=MemoryLimit(max=300, swap_max=swap_max)))
    assert "" == content(group, "memory.limit_in_bytes")


def test_a_refused_write_names_file_data_and_reason(tmp_path: Path) -> None:
    """The user sees what the kernel saw."""
    group = Group(tmp_path, Version.V1)
    with pytest.raises(
        LimitsRejected, match=rf"{tmp_path}/pids\.max: No such file or directory, writing '7'"
    ):
        apply(pids, group, ResourceLimits(pids=7))


def test_usage_of_v1_is_told_in_the_units_of_v2(tmp_path: Path) -> None:
    """Nanoseconds become microseconds."""
    group = posing_group(
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
    assert expected == read_usage({controller.name: group for controller in CONTROLLERS}, None)


def test_usage_of_v2_needs_no_cpu_controller_for_cpu_time(tmp_path: Path) -> None:
    """A group without controllers has cpu.stat with the times alone; before 5.19 there is no peak."""
    group = posing_group(tmp_path, Version.V2, cpu_stat=CPU_STAT_V2, memory_current="4096\n")
    assert ResourceUsage(cpu_usec=401234) == cpuacct.usage(group, ResourceUsage())
    assert ResourceUsage(throttled_usec=812345) == cpu.usage(group, ResourceUsage())
    assert ResourceUsage(memory_current=4096) == memory.usage(group, ResourceUsage())


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda controller: controller.name)
@pytest.mark.parametrize("version", Version)
def test_usage_of_a_group_that_is_gone_is_unknown(
    tmp_path: Path, controller: Controller, version: Version
) -> None:
    """Unknown is None, not zero."""
    assert ResourceUsage() == controller.usage(Group(tmp_path / "gone", version), ResourceUsage())


def test_oom_events_are_told_only_where_the_kernel_counts_them(tmp_path: Path) -> None:
    """The spawner never gets the path of a file that is not there."""
    group = posing_group(tmp_path, Version.V2)
    assert memory.oom_events(group) is None
    (tmp_path / "memory.events").touch()
    assert f"{tmp_path}/memory.events" == memory.oom_events(group)


@pytest.mark.parametrize(("text", "expected"), [("42\n", 42), ("max\n", None), ("", None), ("-1\n", None)])
def test_count_is_a_number_or_none(tmp_path: Path, text: str, expected: int | None) -> None:
    """The kernel's words for no limit are no numbers."""
    (tmp_path / "file").write_text(text)
    assert expected == kernel_files.read_count(tmp_path / "file")


def test_table_skips_what_is_no_pair(tmp_path: Path) -> None:
    """Lines of another form are somebody else's."""
    (tmp_path / "file").write_text("low 0\nfull avg10=0.00 total=12\n\noom_kill 2\nnegative -1\n")
    assert {"low": 0, "oom_kill": 2} == kernel_files.read_table(tmp_path / "file")


@pytest.mark.parametrize(
    ("stat", "asked"),
    [
        ("total_cache 0\ntotal_rss 0\ntotal_pgfault 117\n", False),
        ("total_cache 4096\ntotal_rss 0\ntotal_pgfault 117\n", True),
        ("total_cache 0\ntotal_rss 8192\ntotal_pgfault 117\n", True),
        ("total_cache 0\ntotal_rss 0\ntotal_pgfault 0\n", True),
    ],
    ids=["empty", "cache", "not summed up since its end", "not summed up at all"],
)
def test_only_who_may_have_pages_is_asked_to_drop_them(tmp_path: Path, stat: str, asked: bool) -> None:  # noqa: FBT001
    """What the kernel has not summed up yet is no proof that there are none."""
    drop = tmp_path / "memory.force_empty"
    drop.touch()
    (tmp_path / "memory.stat").write_text(stat)
    (tmp_path / "memory.usage_in_bytes").write_text("249856\n")
    asyncio.run(memory.release(Group(str(tmp_path), Version.V1)))
    assert ("0" if asked else "") == drop.read_text()
