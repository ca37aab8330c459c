"""Capabilities of hosts that we do not have; directories pose as cgroupfs."""

from pathlib import Path

import pytest

from worker.cgroups.capabilities import Capability, HierarchyKind, capabilities
from worker.cgroups.hierarchy.hierarchy import Hierarchy
from worker.cgroups.hierarchy.mounts import (
    directory_of,
    find_legacy,
    find_unified,
    parse_own_cgroups,
)
from worker.cgroups.unenforceable import absent
from worker.core.host.mountinfo import parse_mountinfo

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
    """Pose as a cgroup of v2 that was delegated to us with these controllers."""
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


def test_delegated_cgroup_with_all_controllers_enforces_every_limit(tmp_path: Path) -> None:
    """Controllers need not be enabled for the cgroups below it before a server runs."""
    assert {} == unavailable(delegated(tmp_path, *ALL))


def test_probing_changes_nothing(tmp_path: Path) -> None:
    """The probe cgroup is removed, and no controller is enabled."""
    hierarchy = delegated(tmp_path, *ALL)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    found = capabilities("worker.slice/jobs", hierarchy)
    assert before == {path: path.read_text() for path in tmp_path.iterdir()}
    assert (HierarchyKind.V2, True, True) == (found.hierarchy, found.delegated, found.usable.available)
    assert dict.fromkeys((*ALL, "cpuacct"), tmp_path) == dict(found.controllers)


def test_missing_controllers_are_reported_with_the_drop_in_that_adds_them(tmp_path: Path) -> None:
    """By default a user's systemd gets only cpu, memory and pids."""
    found = unavailable(delegated(tmp_path, "cpu", "memory", "pids"))
    assert {"io", "cpuset"} == found.keys()
    assert "there is no io controller here: not delegated to this group" == found["io"].reason
    assert "Delegate=cpu cpuset io memory pids in a drop-in of user@.service" in found["io"].remedy


def test_missing_swap_accounting_is_reported_with_the_boot_parameter(tmp_path: Path) -> None:
    """The other memory limits can still be enforced."""
    hierarchy = delegated(tmp_path, *ALL, without="memory.swap.max")
    found = unavailable(hierarchy)
    assert {"memory.swap_max"} == found.keys()
    assert "swapaccount=1" in found["memory.swap_max"].remedy


def test_kernel_without_quotas_is_reported(tmp_path: Path) -> None:
    """A kernel may be built without CONFIG_CFS_BANDWIDTH."""
    found = unavailable(delegated(tmp_path, *ALL, without="cpu.max"))
    assert {"cpu.quota": "this kernel has no cpu.max"} == {name: why.reason for name, why in found.items()}


def test_host_without_cgroups_reports_one_reason_for_every_limit() -> None:
    """There is one problem to fix."""
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
def test_kind_depends_on_where_the_controllers_are(hierarchy: Hierarchy, kind: HierarchyKind) -> None:
    """Hybrid: v1 controllers beside a mount of v2."""
    assert kind == capabilities("worker", hierarchy).hierarchy


def test_controller_disabled_at_boot_is_reported(tmp_path: Path) -> None:
    """Debian on ARM, for example, disables memory by default."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS)
    error = absent("limits.memory", "memory", unified=True, table=tmp_path / "cgroups")
    assert "the memory controller is disabled in this kernel" == error.reason
    assert "cgroup_enable=memory" in error.remedy


def test_controller_missing_in_the_kernel_is_reported(tmp_path: Path) -> None:
    """No boot parameter can add it."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS.replace("pids", "perf_event"))
    error = absent("limits.pids", "pids", unified=True, table=tmp_path / "cgroups")
    assert "this kernel has no pids controller" == error.reason


def test_unmounted_v1_controller_is_reported_by_its_v1_name(tmp_path: Path) -> None:
    """The command in the remedy can be copied."""
    (tmp_path / "cgroups").write_text(PROC_CGROUPS)
    error = absent("limits.io", "io", unified=False, table=tmp_path / "cgroups")
    assert error.remedy.startswith("mount it (mount -t cgroup -o blkio blkio /sys/fs/cgroup/blkio)")


def test_kernel_that_lists_no_controllers_is_reported_as_not_delegated(tmp_path: Path) -> None:
    """Without v1 support /proc/cgroups may be missing."""
    error = absent("limits.io", "io", unified=True, table=tmp_path / "cgroups")
    assert "there is no io controller here: not delegated to this group" == error.reason


def test_own_cgroup_is_found_in_nested_slices() -> None:
    """Any nesting, and any number of optional fields in mountinfo."""
    (mount,), own = parse_mountinfo(NESTED_MOUNT), parse_own_cgroups(NESTED_OWN)
    unit = Path("/sys/fs/cgroup/a.slice/a-b.slice/worker.service")
    assert unit == directory_of(own[""], mount)
    assert [(Path("/sys/fs/cgroup"), unit)] == find_unified([mount], own)


def test_blkio_of_v1_has_the_name_of_v2() -> None:
    """All other code uses io."""
    legacy = find_legacy(parse_mountinfo(JOINED_MOUNTS), parse_own_cgroups(JOINED_OWN))
    joined = Path("/sys/fs/cgroup/cpu,cpuacct")
    assert {"cpu": joined, "cpuacct": joined, "io": Path("/sys/fs/cgroup/blkio")} == legacy
