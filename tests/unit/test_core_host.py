"""Text formats and names of a Linux host: mountinfo, systemd units, cgroups of workers."""

import re
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.host import unit_names
from worker.core.host.mountinfo import Mount, mount_of, parse_mountinfo

MOUNTINFO = r"""
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:1 / /proc rw shared:1 master:2 - proc proc rw
3 1 254:1 / /tmp rw - ext4 /dev/vdb rw
4 1 0:2 / /tmp rw - tmpfs tmpfs rw
5 1 0:3 / /mnt/with\040space rw - nfs4 server:/x rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/x", ("ext4", "/")),
        ("/mnt/with space/x", ("nfs4", "/mnt/with space")),
        ("/mnt/with spaces", ("ext4", "/")),
        ("/tmp/x", ("tmpfs", "/tmp")),
        ("/proc/1", ("proc", "/proc")),
    ],
)
def test_the_mount_of_a_path(path: str, expected: tuple[str, str]) -> None:
    """The deepest mount point counts, and of several mounts at one point the last."""
    mount = mount_of(PurePath(path), parse_mountinfo(MOUNTINFO))
    assert mount is not None
    assert expected == (mount.kind, mount.point)


def test_a_path_without_mounts_has_none() -> None:
    """A missing /proc is not an error."""
    assert None is mount_of(PurePath("/x"), [])


def escape(path: str) -> str:
    """Escape as seq_path(9) does for mountinfo."""
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", path)


paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20).map("/".__add__)
words = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
mounts = st.builds(
    Mount,
    device=st.from_regex(r"[0-9]{1,3}:[0-9]{1,3}", fullmatch=True),
    root=paths,
    point=paths,
    options=st.frozensets(words, min_size=1),
    kind=words,
    super_options=st.frozensets(words, min_size=1),
)


@given(
    st.lists(mounts, unique_by=lambda mount: mount.point),
    st.lists(st.from_regex(r"(shared|master|propagate_from):[0-9]{1,4}|unbindable", fullmatch=True)),
)
def test_parser_reads_back_every_mount(expected: list[Mount], optional: list[str]) -> None:
    """Any path, any number of optional fields, any set of options."""
    lines = [
        " ".join(
            [
                *("36", "35", mount.device, escape(mount.root), escape(mount.point)),
                ",".join(mount.options),
                *(*optional, "-", mount.kind, "none", ",".join(mount.super_options)),
            ]
        )
        for mount in expected
    ]
    assert expected == parse_mountinfo("\n".join(lines))


@pytest.mark.parametrize(("options", "expected"), [("rw,noatime", True), ("ro,noatime", False)])
def test_mount_is_writable_by_its_own_options(options: str, expected: bool) -> None:  # noqa: FBT001
    """The options of the file system do not matter."""
    (mount,) = parse_mountinfo(f"1 0 0:1 / / {options} - cgroup2 none rw\n")
    assert expected == mount.writable


@given(st.text())
def test_parser_accepts_any_text(text: str) -> None:
    """Lines of any other format are skipped."""
    parse_mountinfo(text)


def test_scope_names_are_recognized() -> None:
    """A supervisor's systemd scope is one of a worker; that of a server is not a supervisor's."""
    state_dir = PurePath("/var/lib/worker")
    names = [
        f"{unit_names.systemd_scope_name(state_dir, role, '0a1b2c3d')}.scope"
        for role in ("supervisor", "server")
    ]
    assert all(name.startswith(unit_names.worker_name(state_dir)) for name in names)
    assert [True, True] == [unit_names.is_worker_systemd_scope(name) for name in names]
    assert [True, False] == [unit_names.is_supervisor_systemd_scope(name) for name in names]


@pytest.mark.parametrize(
    ("name", "contains_units", "is_unit"),
    [
        ("system.slice", True, True),
        ("user@1000.service", True, True),
        ("nginx.service", False, True),
        ("worker-1-2.scope", False, True),
        ("worker-server", False, False),
    ],
)
def test_kinds_of_units(name: str, contains_units: bool, is_unit: bool) -> None:  # noqa: FBT001
    """Units are below slices and users' managers."""
    assert (contains_units, is_unit) == (unit_names.contains_units(name), unit_names.is_unit(name))


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("/system.slice/w.scope/worker-server", "w.scope"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope", "run-1.scope"),
        ("/user.slice", None),
        ("/", None),
    ],
)
def test_innermost_unit(cgroup: str, expected: str | None) -> None:
    """Processes run in services and scopes, not in slices."""
    assert expected == unit_names.innermost_unit(cgroup)
