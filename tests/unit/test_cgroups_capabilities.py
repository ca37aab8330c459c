"""What is said of hosts that we do not have; directories pose as cgroupfs."""

from pathlib import Path

import pytest

from worker.cgroups.capabilities import Capability, HierarchyKind, capabilities
from worker.cgroups.hierarchy.hierarchy import (
    Hierarchy,
    directory_of,
    find_legacy,
    find_unified,
    parse_mountinfo,
    parse_own_groups,
)
from worker.cgroups.unenforceable import absent

ALL = ("cpu", "cpuset", "io", "memory", "pids")
FILES_V2 = {
    "cpu": ("cpu.max", "cpu.weight"),
    "cpuset": ("cpuset.cpus",),
    "io": ("io.max",),
    "memory": ("memory.max", "memory.high", "memory.swap.max"),
    "pids": ("pids.max",),
}

PROC_CGROUPS = """\
#subsys_name	hierarchy	num_cgroups	enabled
cpuset	0	67	1
cpu	0	67	1
memory	0	67	0
blkio	0	67	1
pids	0	67	1
"""

NESTED_MOUNT = """\
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:3 propagate_from:2 - cgroup2 cgroup2 rw
"""
NESTED_OWN = "0::/a.slice/a-b.slice/worker.service\n"

JOINED_MOUNTS = """\
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / /sys/fs/cgroup/blkio rw shared:15 - cgroup cgroup rw,blkio
"""
JOINED_OWN = "5:blkio:/\n3:cpu,cpuacct:/system.slice\n"


def delegated(directory: Path, *controllers: str, without: str = "") -> Hierarchy:
    """Pose as a group of v2 that was handed to us with these controllers."""
    files = ["cgroup.type", "cgroup.procs", "cgroup.subtree_control"]
    for name in (*files, *(file for controller in controllers for file in FILES_V2[controller])):
        if name != without:
            (directory / name).touch()
    (directory / "cgroup.controllers").write_text(" ".join(controllers))
    return Hierarchy({}, directory, frozenset(controllers), delegated=True)


def unavailable(hierarchy: Hierarchy) -> dict[str, Capability]:
    """Return the limits that cannot be enforced."""
    found = capabilities("worker", hierarchy)
    return {name: limit for name, limit in found.limits.items() if not limit.available}


def test_delegated_group_with_all_controllers_can_do_everything(tmp_path: Path) -> None:
    """The controllers are not enabled for groups below it before a server is there."""
    assert {} == unavailable(delegated(tmp_path, *ALL))


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    """The group that is made for it is gone, and no controller is enabled."""
    hierarchy = delegated(tmp_path, *ALL)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    found = capabilities("worker.slice/jobs", hierarchy)
    assert before == {path: path.read_text() for path in tmp_path.iterdir()}
    assert (HierarchyKind.V2, True, True) == (found.hierarchy, found.delegated, found.usable.available)
    assert dict.fromkeys((*ALL, "cpuacct"), tmp_path) == dict(found.controllers)


def test_missing_controllers_are_named_with_the_drop_in_that_helps(tmp_path: Path) -> None:
    """A user's own systemd gets cpu, memory and pids only, unless it is told otherwise."""
    found = unavailable(delegated(tmp_path, "cpu", "memory", "pids"))
    assert {"io", "cpuset"} == found.keys()
    assert "there is no io controller here: not delegated to this group" == found["io"].reason
    assert "Delegate=cpu cpuset io memory pids in a drop-in of user@.service" in found["io"].remedy


def test_kernel_without_swap_accounting_is_told_how_to_boot(tmp_path: Path) -> None:
    """The other limits of memory hold all the same."""
    hierarchy = delegated(tmp_path, *ALL, without="memory.swap.max")
    found = capabilities("worker", hierarchy)
    assert not found.swap_accounting.available
    assert "swapaccount=1" in found.swap_accounting.remedy
    assert {"memory.swap_max"} == unavailable(hierarchy).keys()


def test_kernel_without_quotas_is_told(tmp_path: Path) -> None:
    """CONFIG_CFS_BANDWIDTH may be left out."""
    found = unavailable(delegated(tmp_path, *ALL, without="cpu.max"))
    assert {"cpu.quota": "this kernel has no cpu.max"} == {name: why.reason for name, why in found.items()}


def test_host_without_anything_has_the_same_reason_everywhere() -> None:
    """There is one thing to be mended."""
    found = capabilities("worker", Hierarchy({}))
    assert HierarchyKind.NONE == found.hierarchy
    assert {found.usable} == set(found.limits.values())
    assert "no cgroup file system is mounted" == found.usable.reason


@pytest.mark.parametrize(
    ("hierarchy", "kind"),
    [
        (Hierarchy({"cpu": Path("/c")}), HierarchyKind.V1),
        (Hierarchy({"cpu": Path("/c")}, Path("/u")), HierarchyKind.HYBRID),
        (Hierarchy({}, Path("/u"), frozenset({"cpu"})), HierarchyKind.V2),
        (Hierarchy({}), HierarchyKind.NONE),
    ],
)
def test_kind_is_told_by_where_controllers_are(hierarchy: Hierarchy, kind: HierarchyKind) -> None:
    """Hybrid: v1 controllers beside a mount of v2."""
    assert kind == capabilities("worker", hierarchy).hierarchy


def test_controller_that_was_switched_off_at_boot_is_told_so(tmp_path: Path) -> None:
    """Debian on ARM and others leave memory off by default."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS)
    error = absent("limits.memory", "memory", unified=True, table=tmp_path / "cgroups")
    assert "the memory controller is switched off in this kernel" == error.reason
    assert "cgroup_enable=memory" in error.remedy


def test_controller_that_was_not_built_is_told_so(tmp_path: Path) -> None:
    """No setting helps there."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS.replace("pids", "perf_event"))
    error = absent("limits.pids", "pids", unified=True, table=tmp_path / "cgroups")
    assert "this kernel has no pids controller" == error.reason


def test_controller_of_v1_that_is_not_mounted_is_told_by_its_old_name(tmp_path: Path) -> None:
    """The command that helps can be copied."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS)
    error = absent("limits.io", "io", unified=False, table=tmp_path / "cgroups")
    assert error.remedy.startswith("mount it (mount -t cgroup -o blkio blkio /sys/fs/cgroup/blkio)")


def test_kernel_that_lists_no_controllers_is_asked_no_further(tmp_path: Path) -> None:
    """Without v1 support /proc/cgroups may be missing."""
    error = absent("limits.io", "io", unified=True, table=tmp_path / "cgroups")
    assert "there is no io controller here: not delegated to this group" == error.reason


def test_nested_slices_lead_to_the_own_group() -> None:
    """Any nesting, and any number of optional fields in mountinfo."""
    (mount,), own = parse_mountinfo(NESTED_MOUNT), parse_own_groups(NESTED_OWN)
    unit = Path("/sys/fs/cgroup/a.slice/a-b.slice/worker.service")
    assert unit == directory_of(own[""], mount)
    assert [(Path("/sys/fs/cgroup"), unit)] == find_unified([mount], own)


def test_blkio_of_v1_goes_by_the_name_of_v2() -> None:
    """Everything else speaks of io."""
    legacy = find_legacy(parse_mountinfo(JOINED_MOUNTS), parse_own_groups(JOINED_OWN))
    joined = Path("/sys/fs/cgroup/cpu,cpuacct")
    assert {"cpu": joined, "cpuacct": joined, "io": Path("/sys/fs/cgroup/blkio")} == legacy
