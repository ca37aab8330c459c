"""A memory limit below the usage, with files of cgroup v2: the host of the tests may have v1."""

from pathlib import Path

import pytest

from worker.cgroups.cgroup import Cgroup
from worker.cgroups.hierarchy.hierarchy import Version
from worker.cgroups.memory_in_use import make_room
from worker.core.errors import LimitBelowUsage
from worker.core.model.limits import MemoryLimit

MIB = 1 << 20


def group(path: Path, **files: str) -> Cgroup:
    """Return a cgroup with these files of the memory controller; an underscore stands for a dot."""
    for name, text in files.items():
        (path / f"memory.{name.replace('_', '.')}").write_text(text)
    return Cgroup(str(path), Version.V2)


def test_the_difference_is_reclaimed_and_the_rest_is_stated(tmp_path: Path) -> None:
    """The kernel is asked to reclaim what is above the limit; what stays in use is in the error."""
    cgroup = group(tmp_path, max="max\n", current=f"{60 * MIB}\n", reclaim="")
    with pytest.raises(LimitBelowUsage) as raised:
        make_room(cgroup, MemoryLimit(max=40 * MIB))
    assert (
        "limits.memory.max: 41943040 bytes (40.0 MiB) is less than the job uses, "
        "62914560 bytes (60.0 MiB); the kernel can reclaim no more"
    ) == str(raised.value)
    assert str(20 * MIB) == (tmp_path / "memory.reclaim").read_text()


def test_without_reclaim_the_page_cache_does_not_count(tmp_path: Path) -> None:
    """Before Linux 5.19 page cache is subtracted: the kernel reclaims it when the limit is written."""
    stat = f"anon {20 * MIB}\nactive_file {15 * MIB}\ninactive_file {25 * MIB}\n"
    cgroup = group(tmp_path, max="max\n", current=f"{60 * MIB}\n", stat=stat)
    make_room(cgroup, MemoryLimit(max=20 * MIB))
    with pytest.raises(LimitBelowUsage, match=f"less than the job uses, {20 * MIB} bytes"):
        make_room(cgroup, MemoryLimit(max=20 * MIB - 1))


@pytest.mark.parametrize(
    ("before", "limit"),
    [("max", None), (str(10 * MIB), 10 * MIB), (str(10 * MIB), 20 * MIB), ("max", 60 * MIB)],
)
def test_a_limit_that_takes_nothing_away_is_not_checked(
    tmp_path: Path, before: str, limit: int | None
) -> None:
    """A limit that stays, rises, is removed or is above the usage makes the kernel reclaim nothing."""
    cgroup = group(tmp_path, max=f"{before}\n", current=f"{60 * MIB}\n", reclaim="untouched")
    make_room(cgroup, MemoryLimit(max=limit))
    assert "untouched" == (tmp_path / "memory.reclaim").read_text()
