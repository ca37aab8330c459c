"""The limiter and the supervisor walk cgroup trees in the same way; directories pose as cgroupfs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.cgroups import tree
from worker.linux.kernel import cgroup_tree

walkers = pytest.mark.parametrize("walk", [tree.walk, cgroup_tree.walk], ids=["limiter", "supervisor"])
Walk = Callable[[str], Iterator[str]]


@walkers
def test_parents_come_first(walk: Walk, tmp_path: Path) -> None:
    """The reversed order can be removed; files and links are not cgroups."""
    for name in ("job/a/b", "job/c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "job/cgroup.procs").touch()
    (tmp_path / "job/link").symlink_to(tmp_path)
    found = [os.path.relpath(path, tmp_path) for path in walk(f"{tmp_path}/job")]
    assert ["job", "job/a", "job/a/b", "job/c"] == sorted(found)
    assert "job" == found[0]
    assert found.index("job/a") < found.index("job/a/b")


@walkers
def test_depth_is_not_limited_by_recursion(walk: Walk, tmp_path: Path) -> None:
    """A job may nest cgroups deeper than Python's recursion limit."""
    depth = 1200
    path = str(tmp_path)
    for _ in range(depth):
        path += "/d"
        os.mkdir(path)
    found = list(walk(str(tmp_path)))
    assert depth + 1 == len(found)
    for each in reversed(found):
        os.rmdir(each)


@walkers
def test_removed_cgroup_is_skipped(walk: Walk, tmp_path: Path) -> None:
    """A cgroup may disappear before and during the walk."""
    (tmp_path / "a/b").mkdir(parents=True)
    found = []
    for path in walk(str(tmp_path)):
        found.append(path)
        if path == str(tmp_path / "a"):
            (tmp_path / "a/b").rmdir()
            (tmp_path / "a").rmdir()
    assert [str(tmp_path), str(tmp_path / "a")] == found
    assert [str(tmp_path / "none")] == list(walk(str(tmp_path / "none")))


def test_walk_omits_what_is_below_other_cgroups(tmp_path: Path) -> None:
    """A cgroup that is not entered is still returned."""
    for name in ("a.slice/b.service/c", "d/e"):
        (tmp_path / name).mkdir(parents=True)
    found = tree.walk(str(tmp_path), lambda name: name.endswith(".slice"))
    assert [".", "a.slice", "a.slice/b.service", "d"] == sorted(
        os.path.relpath(path, tmp_path) for path in found
    )
