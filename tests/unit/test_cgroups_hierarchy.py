"""The hierarchies found in the recorded /proc texts of several hosts, and in generated ones."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cgroups.hierarchy.detection import detect
from worker.cgroups.hierarchy.hierarchy import (
    CPU_TIME,
    ControllerRoot,
    Hierarchy,
    Version,
)
from worker.cgroups.hierarchy.mounts import (
    directory_of,
    find_legacy,
    find_unified,
    parse_own_cgroups,
)
from worker.core.errors import SpawnerUnavailable
from worker.core.host.mountinfo import Mount, parse_mountinfo

SYSTEMD_V2 = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 \
rw,nsdelegate,memory_recursiveprot
"""
SYSTEMD_V2_OWN = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n"

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "9:name=systemd:/\n8:pids:/\n4:memory:/some/cgroup\n2:cpuacct:/\n1:cpu:/\n0::/\n"

JOINED_V1 = """\
25 18 0:21 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,seclabel,mode=755
26 25 0:22 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup \
rw,xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,seclabel,cpuacct,cpu
31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:13 master:2 propagate_from:2 - cgroup cgroup \
rw,seclabel,memory
"""
JOINED_V1_OWN = (
    "4:memory:/user.slice\n3:cpuacct,cpu:/user.slice\n1:name=systemd:/user.slice/session-1.scope\n"
)

DOCKER_V1 = """\
607 583 0:55 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
610 607 0:27 /docker/8a1c /sys/fs/cgroup/memory ro,nosuid master:13 - cgroup cgroup rw,memory
615 607 0:26 /docker/8a1c /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:12 - cgroup cgroup rw,cpu,cpuacct
699 583 0:27 / /host/memory rw,nosuid master:13 - cgroup cgroup rw,memory
"""
DOCKER_V1_OWN = "4:memory:/docker/8a1c\n3:cpu,cpuacct:/docker/8a1c\n"

DOCKER_V2 = """\
1201 1199 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate
"""


def test_v2_host_offers_the_mount_point_and_the_own_cgroup() -> None:
    """A pure v2 host has nothing of v1, and the delegated scope is found."""
    mounts, own = parse_mountinfo(SYSTEMD_V2), parse_own_cgroups(SYSTEMD_V2_OWN)
    assert {} == find_legacy(mounts, own)
    delegated = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope"
    assert [(Path("/sys/fs/cgroup"), Path(delegated))] == find_unified(mounts, own)


def test_hybrid_host_has_v1_controllers_and_a_unified_mount() -> None:
    """Named hierarchies without a controller are ignored."""
    mounts, own = parse_mountinfo(HYBRID), parse_own_cgroups(HYBRID_OWN)
    names = ("cpu", "cpuacct", "memory", "pids")
    legacy = {name: Path("/sys/fs/cgroup", name) for name in names}
    assert legacy == {name: path for name, path in find_legacy(mounts, own).items() if "=" not in name}
    assert [(Path("/sys/fs/cgroup/unified"),) * 2] == find_unified(mounts, own)


def test_joined_controllers_share_a_mount() -> None:
    """With cpu,cpuacct in one mount both are found, whatever their order and the optional fields."""
    legacy = find_legacy(parse_mountinfo(JOINED_V1), parse_own_cgroups(JOINED_V1_OWN))
    assert Path("/sys/fs/cgroup/cpu,cpuacct") == legacy["cpu"] == legacy["cpuacct"]
    assert Path("/sys/fs/cgroup/memory") == legacy["memory"]


def test_of_several_mounts_the_writable_one_is_used() -> None:
    """A container whose own mounts are read-only can use one that was passed to it."""
    legacy = find_legacy(parse_mountinfo(DOCKER_V1), parse_own_cgroups(DOCKER_V1_OWN))
    assert Path("/host/memory") == legacy["memory"]
    assert Path("/sys/fs/cgroup/cpu,cpuacct") == legacy["cpu"]


def test_container_with_its_own_namespace_sees_one_base() -> None:
    """The own cgroup is the root there, and is not appended to the mount point."""
    assert [(Path("/sys/fs/cgroup"),) * 2] == find_unified(
        parse_mountinfo(DOCKER_V2), parse_own_cgroups("0::/\n")
    )


def test_host_without_cgroups_has_nothing() -> None:
    """A host without any cgroup mount is not an error."""
    mounts = parse_mountinfo("28 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    assert ({}, []) == (find_legacy(mounts, {"cpu": "/"}), find_unified(mounts, {}))


def test_last_mount_at_a_point_hides_the_others() -> None:
    """A cgroup mount that another mount hides is not found."""
    over = "50 41 0:50 / /sys/fs/cgroup/unified rw - tmpfs none rw\n"
    assert [] == find_unified(parse_mountinfo(HYBRID + over), {})


@pytest.mark.parametrize(
    ("cgroup", "root", "expected"),
    [
        ("/", "/", "/m"),
        ("/a/b", "/", "/m/a/b"),
        ("/docker/x", "/docker/x", "/m"),
        ("/docker/x/y", "/docker/x", "/m/y"),
        ("/elsewhere", "/docker/x", "/m"),
        ("/../outside", "/", "/m"),
        ("/", "/../..", "/m"),
    ],
)
def test_own_cgroup_is_found_below_its_mount(cgroup: str, root: str, expected: str) -> None:
    """The root of the mount is removed from the path; outside of the mount the mount point is returned."""
    mount = Mount("0:1", root, "/m", frozenset({"rw"}), "cgroup2", frozenset())
    assert Path(expected) == directory_of(cgroup, mount)


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ("cpu", ControllerRoot(Path("/v1/cpu"), Version.V1)),
        ("hugetlb", ControllerRoot(Path("/v2"), Version.V2)),
        (CPU_TIME, ControllerRoot(Path("/v2"), Version.V2)),
        ("io", None),
    ],
)
def test_root_of_a_controller_on_a_hybrid_host(controller: str, expected: ControllerRoot | None) -> None:
    """Each controller is where it is mounted; CPU time needs no v1 cgroup if there is one of v2."""
    legacy = {"cpu": Path("/v1/cpu"), CPU_TIME: Path("/v1/cpuacct")}
    assert expected == Hierarchy(legacy, Path("/v2"), frozenset({"hugetlb"})).root(controller)


def test_detect_combines_mounts_own_cgroups_and_controllers(tmp_path: Path) -> None:
    """The base is the mount point, with the controllers that it offers."""
    base = tmp_path / "a mount"
    base.mkdir()
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    point = str(base).replace(" ", "\\040")
    proc = posing_proc(
        tmp_path / "proc", f"30 22 0:26 / {point} rw shared:9 - cgroup2 cgroup2 rw\n", "0::/\n"
    )
    assert Hierarchy({}, base, frozenset({"cpu", "memory", "pids"}), top=base) == detect(PROCESS, proc)


def test_detect_without_proc_finds_nothing(tmp_path: Path) -> None:
    """Without /proc a host has no cgroups."""
    assert Hierarchy({}) == detect(os.getpid(), tmp_path)


def test_detect_uses_the_cgroup_of_the_process(tmp_path: Path) -> None:
    """The supervisor may be in another cgroup than the server; that of the supervisor counts."""
    unit = tmp_path / "m/system.slice/worker-1.scope"
    for directory in (tmp_path / "m", unit):
        directory.mkdir(parents=True)
        (directory / "cgroup.controllers").write_text("pids\n")
    (unit / "cgroup.type").write_text("domain\n")
    (unit / "cgroup.procs").touch()
    try:
        os.setxattr(unit, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"{unit} cannot have extended attributes: {error.strerror}")
    mounts = f"30 22 0:26 / {tmp_path}/m rw shared:9 - cgroup2 cgroup2 rw\n"
    proc = posing_proc(tmp_path / "proc", mounts, "0::/system.slice/worker-1.scope\n")
    expected = Hierarchy({}, unit, frozenset({"pids"}), delegated=True, top=tmp_path / "m")
    assert expected == detect(PROCESS, proc)


def test_process_that_has_exited_is_reported(tmp_path: Path) -> None:
    """The cgroup of another process is not used instead."""
    with pytest.raises(SpawnerUnavailable, match="process 4711"):
        detect(PROCESS, tmp_path)


PROCESS = 4711


def posing_proc(directory: Path, mountinfo: str, cgroup: str) -> Path:
    """Pose as procfs with this process and one other."""
    for name in ("self", str(PROCESS)):
        (directory / name).mkdir(parents=True)
    (directory / "self/mountinfo").write_text(mountinfo)
    (directory / f"{PROCESS}/cgroup").write_text(cgroup)
    return directory


paths = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=20).map("/".__add__)
controllers = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@given(st.dictionaries(controllers, paths, min_size=1))
def test_parser_reads_back_every_own_cgroup(expected: dict[str, str]) -> None:
    """Colons and blanks in the name of a cgroup are part of it."""
    text = "".join(f"{number}:{name}:{path}\n" for number, (name, path) in enumerate(expected.items()))
    assert expected == parse_own_cgroups(text)


@given(st.text())
def test_parser_accepts_any_text(text: str) -> None:
    """Lines of any other format are skipped."""
    parse_own_cgroups(text)
