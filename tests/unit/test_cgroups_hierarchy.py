"""Which hierarchies are found in the recorded texts of several hosts, and in made-up ones."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cgroups.hierarchy.hierarchy import (
    CPU_TIME,
    CgroupMount,
    Hierarchy,
    Home,
    Version,
    detect,
    directory_of,
    find_legacy,
    find_unified,
    parse_mountinfo,
    parse_own_groups,
)
from worker.core.errors import SpawnerUnavailable

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
HYBRID_OWN = "9:name=systemd:/\n8:pids:/\n4:memory:/some/group\n2:cpuacct:/\n1:cpu:/\n0::/\n"

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


def test_v2_host_offers_the_top_and_the_own_group() -> None:
    """On a pure v2 host there is nothing of v1, and the delegated slice is found."""
    mounts, own = parse_mountinfo(SYSTEMD_V2), parse_own_groups(SYSTEMD_V2_OWN)
    assert {} == find_legacy(mounts, own)
    delegated = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope"
    assert [(Path("/sys/fs/cgroup"), Path(delegated))] == find_unified(mounts, own)


def test_hybrid_host_has_v1_controllers_and_a_unified_mount() -> None:
    """Named hierarchies without a controller are left out."""
    mounts, own = parse_mountinfo(HYBRID), parse_own_groups(HYBRID_OWN)
    names = ("cpu", "cpuacct", "memory", "pids")
    legacy = {name: Path("/sys/fs/cgroup", name) for name in names}
    assert legacy == {name: path for name, path in find_legacy(mounts, own).items() if "=" not in name}
    assert [(Path("/sys/fs/cgroup/unified"),) * 2] == find_unified(mounts, own)


def test_joined_controllers_share_a_mount() -> None:
    """With cpu,cpuacct in one mount both are found there, whatever their order and the optional fields."""
    legacy = find_legacy(parse_mountinfo(JOINED_V1), parse_own_groups(JOINED_V1_OWN))
    assert Path("/sys/fs/cgroup/cpu,cpuacct") == legacy["cpu"] == legacy["cpuacct"]
    assert Path("/sys/fs/cgroup/memory") == legacy["memory"]


def test_of_several_mounts_the_writable_one_counts() -> None:
    """A container whose own mounts are read-only can use one that it was handed."""
    legacy = find_legacy(parse_mountinfo(DOCKER_V1), parse_own_groups(DOCKER_V1_OWN))
    assert Path("/host/memory") == legacy["memory"]
    assert Path("/sys/fs/cgroup/cpu,cpuacct") == legacy["cpu"]


def test_container_with_its_own_namespace_sees_one_base() -> None:
    """The own group is the root there, so that it is not named twice."""
    assert [(Path("/sys/fs/cgroup"),) * 2] == find_unified(
        parse_mountinfo(DOCKER_V2), parse_own_groups("0::/\n")
    )


def test_host_without_cgroups_has_nothing() -> None:
    """No cgroup mount at all is no error."""
    assert [] == parse_mountinfo("28 1 254:1 / / rw - ext4 /dev/vda1 rw\n")


def test_last_mount_over_a_point_is_the_one_that_is_seen() -> None:
    """What is mounted over is not there."""
    over = "50 41 0:50 / /sys/fs/cgroup/unified rw - tmpfs none rw\n"
    assert [] == find_unified(parse_mountinfo(HYBRID + over), {})


@pytest.mark.parametrize(
    ("group", "root", "expected"),
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
def test_own_group_is_found_below_its_mount(group: str, root: str, expected: str) -> None:
    """The root of the mount is cut off; what the mount does not show is answered by its top."""
    mount = CgroupMount(Version.V2, root, "/m", writable=True, options=frozenset())
    assert Path(expected) == directory_of(group, mount)


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        ("cpu", Home(Path("/v1/cpu"), Version.V1)),
        ("hugetlb", Home(Path("/v2"), Version.V2)),
        (CPU_TIME, Home(Path("/v2"), Version.V2)),
        ("io", None),
    ],
)
def test_home_of_a_controller_on_a_hybrid_host(controller: str, expected: Home | None) -> None:
    """Each controller is where it is mounted, and CPU time needs no v1 group beside one of v2."""
    legacy = {"cpu": Path("/v1/cpu"), CPU_TIME: Path("/v1/cpuacct")}
    assert expected == Hierarchy(legacy, Path("/v2"), frozenset({"hugetlb"})).home(controller)


def test_detect_reads_what_proc_says(tmp_path: Path) -> None:
    """Mounts, own groups and the controllers of the base come together."""
    base = tmp_path / "a mount"
    base.mkdir()
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    point = str(base).replace(" ", "\\040")
    proc = a_proc(tmp_path / "proc", f"30 22 0:26 / {point} rw shared:9 - cgroup2 cgroup2 rw\n", "0::/\n")
    assert Hierarchy({}, base, frozenset({"cpu", "memory", "pids"}), top=base) == detect(PROCESS, proc)


def test_detect_without_proc_finds_nothing(tmp_path: Path) -> None:
    """A missing /proc is a host without control groups."""
    assert Hierarchy({}) == detect(os.getpid(), tmp_path)


def test_detect_looks_where_the_process_is(tmp_path: Path) -> None:
    """The supervisor may live in another group than the server: its own is what counts."""
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
    proc = a_proc(tmp_path / "proc", mounts, "0::/system.slice/worker-1.scope\n")
    expected = Hierarchy({}, unit, frozenset({"pids"}), delegated=True, top=tmp_path / "m")
    assert expected == detect(PROCESS, proc)


def test_process_that_has_ended_is_told(tmp_path: Path) -> None:
    """Its group is not taken for another one's."""
    with pytest.raises(SpawnerUnavailable, match="process 4711"):
        detect(PROCESS, tmp_path)


PROCESS = 4711


def a_proc(directory: Path, mountinfo: str, cgroup: str) -> Path:
    """Pose as procfs with ourselves and one other process in it."""
    for name in ("self", str(PROCESS)):
        (directory / name).mkdir(parents=True)
    (directory / "self/mountinfo").write_text(mountinfo)
    (directory / f"{PROCESS}/cgroup").write_text(cgroup)
    return directory


def escape(path: str) -> str:
    """Escape as seq_path(9) does for mountinfo."""
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", path)


paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).map("/".__add__)
words = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
mounts = st.builds(
    CgroupMount,
    version=st.sampled_from(Version),
    root=paths,
    point=paths,
    writable=st.booleans(),
    options=st.frozensets(words, min_size=1),
)


@given(
    st.lists(mounts, unique_by=lambda mount: mount.point),
    st.lists(st.from_regex(r"(shared|master|propagate_from):[0-9]{1,4}|unbindable", fullmatch=True)),
)
def test_parser_reads_back_every_mount(expected: list[CgroupMount], optional: list[str]) -> None:
    """Any path, any number of optional fields, any set of options."""
    lines = [
        " ".join(
            [
                *("36", "35", "98:0", escape(mount.root), escape(mount.point)),
                "rw,noatime" if mount.writable else "ro,noatime",
                *(*optional, "-", "cgroup2" if mount.version is Version.V2 else "cgroup", "none"),
                ",".join(mount.options),
            ]
        )
        for mount in expected
    ]
    assert expected == parse_mountinfo("\n".join(lines))


@given(st.dictionaries(words, paths.filter(lambda path: "\n" not in path), min_size=1))
def test_parser_reads_back_every_own_group(expected: dict[str, str]) -> None:
    """Colons and blanks in the name of a group are part of it."""
    text = "".join(f"{number}:{name}:{path}\n" for number, (name, path) in enumerate(expected.items()))
    assert expected == parse_own_groups(text)


@given(st.text())
def test_parsers_take_any_text(text: str) -> None:
    """What is no line of the kernel's is skipped."""
    parse_mountinfo(text)
    parse_own_groups(text)
