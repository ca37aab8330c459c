"""Kernel texts as recorded on several hosts: I/O counters, pressure, CPU lists."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cgroups import pressure
from worker.cgroups.cgroup import Cgroup
from worker.cgroups.controllers import (
    cpuset,
    io,
    memory,
)
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.rollback import replace_all
from worker.cgroups.settings import write_new
from worker.core.errors import InvalidJobSpec, LimitsUnsupported
from worker.core.model.limits import (
    IoLimit,
    MemoryLimit,
    Pressure,
    ResourceLimits,
    ResourceUsage,
    parse_cpus,
)

IO_STAT = """\
254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0
7:0 rbytes=100 wbytes=0 rios=3 wios=0 dbytes=0 dios=0
8:0
"""
SERVICE_BYTES = """\
254:0 Read 4096
254:0 Write 8388608
254:0 Sync 8392704
254:0 Async 0
254:0 Discard 0
254:0 Total 8392704
Total 8392704
"""
SERVICED = SERVICE_BYTES.replace("4096", "1").replace("8388608", "16").replace("8392704", "17")
PRESSURE = """\
some avg10=12.34 avg60=3.00 avg300=0.50 total=123456
full avg10=1.50 avg60=0.00 avg300=0.00 total=789
"""

UNLIMITED_DISK = "254:0 rbps=max wbps=max riops=max wiops=max"
LIMIT = IoLimit("254:0", read_bytes_per_second=1024, write_operations_per_second=50)
THROTTLE_V1 = [
    f"blkio.throttle.{name}_device" for name in ("read_bps", "write_bps", "read_iops", "write_iops")
]


def cgroup_with(directory: Path, version: Version, files: dict[str, str]) -> Cgroup:
    """Pose as a cgroup with these files."""
    for name, text in files.items():
        (directory / name).write_text(text)
    return Cgroup(directory, version)


def test_io_of_v2_is_the_sum_of_all_devices(tmp_path: Path) -> None:
    """A device without any I/O has a line with only its number."""
    cgroup = cgroup_with(tmp_path, Version.V2, {"io.stat": IO_STAT})
    expected = ResourceUsage(
        io_read_bytes=4196, io_write_bytes=8192, io_read_operations=4, io_write_operations=2
    )
    assert expected == io.usage(cgroup, ResourceUsage())


@pytest.mark.parametrize("recursive", ["", "_recursive"])
def test_io_of_v1_includes_nested_cgroups_where_the_kernel_counts_them(
    tmp_path: Path, recursive: str
) -> None:
    """The recursive files exist since Linux 4.2."""
    files = {
        f"blkio.throttle.io_service_bytes{recursive}": SERVICE_BYTES,
        f"blkio.throttle.io_serviced{recursive}": SERVICED,
    }
    expected = ResourceUsage(
        io_read_bytes=4096, io_write_bytes=8388608, io_read_operations=1, io_write_operations=16
    )
    assert expected == io.usage(cgroup_with(tmp_path, Version.V1, files), ResourceUsage())


@pytest.mark.parametrize(
    ("version", "files"),
    [
        (Version.V2, {"io.stat": ""}),
        (Version.V1, {"blkio.throttle.io_service_bytes": "Total 0\n"}),
    ],
)
def test_no_io_is_zero(tmp_path: Path, version: Version, files: dict[str, str]) -> None:
    """It is unknown only where there is no counter."""
    expected = ResourceUsage(io_read_bytes=0, io_write_bytes=0, io_read_operations=0, io_write_operations=0)
    assert expected == io.usage(cgroup_with(tmp_path, version, files), ResourceUsage())


def test_io_limits_of_v2_are_one_line(tmp_path: Path) -> None:
    """Values without a limit are written as max, which lifts an earlier limit."""
    cgroup = cgroup_with(tmp_path, Version.V2, {"io.max": ""})
    write_new(io.settings(cgroup, ResourceLimits(io=(LIMIT,))))
    assert "254:0 rbps=1024 wbps=max riops=max wiops=50" == cgroup.text("io.max")


def test_io_limits_of_v1_are_written_to_one_file_each(tmp_path: Path) -> None:
    """Files of other limits are not written; operations fit the kernel's 32 bits."""
    cgroup = cgroup_with(tmp_path, Version.V1, dict.fromkeys(THROTTLE_V1, ""))
    many = IoLimit("254:0", read_bytes_per_second=1024, write_operations_per_second=1 << 40)
    write_new(io.settings(cgroup, ResourceLimits(io=(many,))))
    expected = ["254:0 1024", "", "", "254:0 4294967295"]
    assert expected == [cgroup.text(name) for name in THROTTLE_V1]


def test_io_limits_that_are_no_longer_requested_are_lifted(tmp_path: Path) -> None:
    """The kernel's files show which devices have limits."""
    v2 = cgroup_with(tmp_path, Version.V2, {"io.max": "254:0 rbps=1024 wbps=max riops=max wiops=50\n"})
    replace_all(io.settings(v2, ResourceLimits()))
    assert v2.text("io.max").startswith(UNLIMITED_DISK)
    v1 = cgroup_with(tmp_path, Version.V1, {**dict.fromkeys(THROTTLE_V1, ""), THROTTLE_V1[0]: "254:0 7\n"})
    replace_all(io.settings(v1, ResourceLimits()))
    assert ["254:0 0\n", "", "", ""] == [v1.text(name) for name in THROTTLE_V1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PRESSURE, Pressure(12.34, 123456, 1.5, 789)),
        (PRESSURE.splitlines()[0], Pressure(12.34, 123456, 0.0, 0)),
        ("", None),
    ],
)
def test_pressure_is_read_where_it_exists(text: str, expected: Pressure | None) -> None:
    """Before Linux 5.13 cpu.pressure has no line for all tasks."""
    assert expected == pressure.parse(text)


def test_pressure_comes_from_the_cgroup_of_v2(tmp_path: Path) -> None:
    """Also on a hybrid host, where that cgroup has no controllers."""
    names = ("cpu.pressure", "memory.pressure", "io.pressure")
    cgroup = cgroup_with(tmp_path, Version.V2, dict.fromkeys(names, PRESSURE))
    reading = Pressure(12.34, 123456, 1.5, 789)
    expected = ResourceUsage(cpu_pressure=reading, memory_pressure=reading, io_pressure=reading)
    assert expected == pressure.usage(cgroup, ResourceUsage())


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_list_of_cpus_is_parsed_as_it_was_formatted(cpus: frozenset[int]) -> None:
    """Formatting and parsing are inverse."""
    assert cpus == parse_cpus(cpuset.format_cpus(cpus))


@pytest.mark.parametrize("version", Version)
def test_missing_cpus_are_rejected(tmp_path: Path, version: Version) -> None:
    """The kernel of v2 would accept them, and let the job run on any CPU."""
    (tmp_path / "job").mkdir()
    cgroup_with(tmp_path, version, {"cpuset.cpus": "0-3\n", "cpuset.cpus.effective": "0-3\n"})
    limits = ResourceLimits(cpuset="2-8191")
    with pytest.raises(InvalidJobSpec, match="there is no CPU 4-8191 here; available: 0-3"):
        list(cpuset.settings(Cgroup(tmp_path / "job", version), limits))


def test_new_cgroups_of_v1_inherit_the_cpus_of_their_parent(tmp_path: Path) -> None:
    """Without CPUs and memory nodes no process can join; existing lists are not changed."""
    parent, job = tmp_path / "worker", tmp_path / "worker/job"
    job.mkdir(parents=True)
    for directory, cpus in ((tmp_path, "0-3"), (parent, "1"), (job, "\n")):
        files = {"cpuset.cpus": cpus, "cpuset.mems": cpus, "cgroup.clone_children": "0"}
        cgroup_with(directory, Version.V1, files)
    cpuset.inherit(Cgroup(str(job), Version.V1))
    names = ("cpuset.cpus", "cpuset.mems", "cgroup.clone_children")
    assert ("0-3", "0-3", "0") == tuple((tmp_path / name).read_text() for name in names)
    assert ("1", "1", "1") == tuple((parent / name).read_text() for name in names)
    assert ("1", "1", "0") == tuple((job / name).read_text() for name in names)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (MemoryLimit(high=1), r"limits\.memory\.high: cgroup v1 .*soft limit.*; use limits\.memory\.max"),
        (
            MemoryLimit(max=1, swap_max=1),
            r"limits\.memory\.swap_max: .* does not account swap; .*swapaccount=1",
        ),
    ],
)
def test_memory_limits_that_v1_does_not_have_are_rejected_with_the_remedy(
    tmp_path: Path, limit: MemoryLimit, reason: str
) -> None:
    """A host without swap accounting has no memsw files."""
    cgroup = cgroup_with(tmp_path, Version.V1, {"memory.limit_in_bytes": "-1"})
    with pytest.raises(LimitsUnsupported, match=reason):
        list(memory.settings(cgroup, ResourceLimits(memory=limit)))
