"""Which group may be managed, and how it is vacated; directories pose as cgroupfs."""

import os
from pathlib import Path

import pytest

from worker.cgroups.hierarchy.delegation import SERVER_GROUP, delegated_group, vacate


def group_at(path: Path, processes: str = "") -> Path:
    """Pose as a group of v2 that is not the root of all."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.type").write_text("domain\n")
    (path / "cgroup.procs").write_text(processes)
    return path


def mark(group: Path) -> Path:
    """Mark a group as systemd does."""
    try:
        os.setxattr(group, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"{group} cannot have extended attributes: {error.strerror}")
    return group


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="without root the owner tells")


def test_marked_group_is_ours(tmp_path: Path) -> None:
    """A unit with Delegate=yes is the base of its jobs."""
    own = mark(group_at(tmp_path / "system.slice/worker.service"))
    assert own == delegated_group(tmp_path, own)


@as_root
def test_unmarked_group_is_not_root_s_to_manage(tmp_path: Path) -> None:
    """Root could write everywhere; what systemd did not delegate it manages itself."""
    own = group_at(tmp_path / "system.slice/worker.service")
    assert None is delegated_group(tmp_path, own)


def test_mark_with_another_value_is_none(tmp_path: Path) -> None:
    """Only 1 means delegated."""
    own = mark(group_at(tmp_path / "worker.service"))
    os.setxattr(own, "user.delegate", b"0")
    expected = None if os.geteuid() == 0 else own
    assert expected == delegated_group(tmp_path, own)


def test_server_that_starts_in_the_group_of_an_earlier_one_finds_its_base(tmp_path: Path) -> None:
    """The shell that started the first server was moved with it, and starts the second from there."""
    unit = mark(group_at(tmp_path / "app.slice/run-1.scope"))
    assert unit == delegated_group(tmp_path, mark(group_at(unit / SERVER_GROUP)))


@as_root
def test_unit_with_a_subgroup_for_its_main_process_is_found(tmp_path: Path) -> None:
    """DelegateSubgroup= of systemd 254 does what we do otherwise."""
    unit = mark(group_at(tmp_path / "worker.service"))
    assert unit == delegated_group(tmp_path, group_at(unit / "supervisor"))


@as_root
@pytest.mark.parametrize("name", ["foo.service", "foo.scope", "app.slice/foo.scope"])
def test_units_of_a_delegated_manager_are_that_manager_s(tmp_path: Path, name: str) -> None:
    """user@1000.service is delegated, to the user's systemd; its units are not."""
    manager = mark(group_at(tmp_path / "user@1000.service"))
    assert None is delegated_group(tmp_path, group_at(manager / name))


def test_root_of_a_namespace_is_the_container_s_own(tmp_path: Path) -> None:
    """A container sees its own group at the mount point."""
    assert tmp_path == delegated_group(tmp_path, group_at(tmp_path))


def test_root_of_all_is_nobody_s(tmp_path: Path) -> None:
    """It alone has no type, and may have processes and controllers at once."""
    (tmp_path / "cgroup.procs").write_text("1\n")
    assert None is delegated_group(tmp_path, tmp_path)


def test_group_that_cannot_be_written_is_not_ours(tmp_path: Path) -> None:
    """A mark on a group whose files are another's does not help (systemd-run --scope --uid=)."""
    own = mark(group_at(tmp_path / "run-1.scope"))
    (own / "cgroup.procs").unlink()
    assert None is delegated_group(tmp_path, own)


def test_vacating_an_empty_group_makes_nothing(tmp_path: Path) -> None:
    """No group is made that nobody needs."""
    vacate(group_at(tmp_path))
    assert not (tmp_path / SERVER_GROUP).exists()


def test_vacating_moves_the_processes_one_by_one(tmp_path: Path) -> None:
    """The kernel takes one pid per write; what stays (here: all, nothing moves) is not tried for ever."""
    group_at(tmp_path, "4711\n4712\n")
    (tmp_path / SERVER_GROUP).mkdir()
    moved = tmp_path / SERVER_GROUP / "cgroup.procs"
    moved.touch()
    vacate(tmp_path)
    assert "4712" == moved.read_text()


def test_group_that_cannot_be_vacated_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Limits are refused with their own reason then; the log tells what the kernel said."""
    group_at(tmp_path, "4711\n")
    vacate(tmp_path)
    assert [True] == [f"{tmp_path} cannot be vacated" in message for message in caplog.messages]
