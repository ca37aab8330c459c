"""Finding and vacating the delegated cgroup; directories pose as cgroupfs."""

import os
from pathlib import Path

import pytest

from worker.cgroups.hierarchy.delegation import SERVER_CGROUP, find_delegated, vacate


def cgroup_at(path: Path, processes: str = "") -> Path:
    """Pose as a cgroup of v2 that is not the root of the tree."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.type").write_text("domain\n")
    (path / "cgroup.procs").write_text(processes)
    return path


def mark(cgroup: Path) -> Path:
    """Mark a cgroup as systemd does."""
    try:
        os.setxattr(cgroup, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"{cgroup} cannot have extended attributes: {error.strerror}")
    return cgroup


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="without root the owner decides")


def test_marked_cgroup_is_delegated(tmp_path: Path) -> None:
    """A unit with Delegate=yes is the base of its jobs."""
    own = mark(cgroup_at(tmp_path / "system.slice/worker.service"))
    assert own == find_delegated(tmp_path, own)


@as_root
def test_unmarked_cgroup_is_not_delegated_to_root(tmp_path: Path) -> None:
    """Root can write everywhere, but systemd manages what it did not delegate."""
    own = cgroup_at(tmp_path / "system.slice/worker.service")
    assert None is find_delegated(tmp_path, own)


def test_mark_with_another_value_does_not_count(tmp_path: Path) -> None:
    """Only 1 means delegated."""
    own = mark(cgroup_at(tmp_path / "worker.service"))
    os.setxattr(own, "user.delegate", b"0")
    expected = None if os.geteuid() == 0 else own
    assert expected == find_delegated(tmp_path, own)


def test_server_started_in_the_cgroup_of_an_earlier_one_finds_the_base(tmp_path: Path) -> None:
    """The shell that started the first server was moved with it, and starts the second from there."""
    unit = mark(cgroup_at(tmp_path / "app.slice/run-1.scope"))
    assert unit == find_delegated(tmp_path, mark(cgroup_at(unit / SERVER_CGROUP)))


@as_root
def test_unit_with_a_subgroup_for_its_main_process_is_delegated(tmp_path: Path) -> None:
    """DelegateSubgroup= (systemd 254) moves the process as vacate() does."""
    unit = mark(cgroup_at(tmp_path / "worker.service"))
    assert unit == find_delegated(tmp_path, cgroup_at(unit / "supervisor"))


@as_root
@pytest.mark.parametrize("name", ["foo.service", "foo.scope", "app.slice/foo.scope"])
def test_units_of_a_delegated_manager_are_not_delegated(tmp_path: Path, name: str) -> None:
    """user@1000.service is delegated, to the user's systemd; its units are not."""
    manager = mark(cgroup_at(tmp_path / "user@1000.service"))
    assert None is find_delegated(tmp_path, cgroup_at(manager / name))


def test_root_of_a_cgroup_namespace_is_delegated(tmp_path: Path) -> None:
    """A container sees its own cgroup at the mount point."""
    assert tmp_path == find_delegated(tmp_path, cgroup_at(tmp_path))


def test_root_of_the_tree_is_never_delegated(tmp_path: Path) -> None:
    """It alone has no type, and may have processes and controllers at once."""
    (tmp_path / "cgroup.procs").write_text("1\n")
    assert None is find_delegated(tmp_path, tmp_path)


def test_cgroup_that_is_not_writable_is_not_delegated(tmp_path: Path) -> None:
    """A mark does not help if another user owns the files (systemd-run --scope --uid=)."""
    own = mark(cgroup_at(tmp_path / "run-1.scope"))
    (own / "cgroup.procs").unlink()
    assert None is find_delegated(tmp_path, own)


def test_vacating_an_empty_cgroup_creates_nothing(tmp_path: Path) -> None:
    """An unused cgroup is not created."""
    vacate(cgroup_at(tmp_path))
    assert not (tmp_path / SERVER_CGROUP).exists()


def test_vacating_moves_the_processes_one_by_one(tmp_path: Path) -> None:
    """The kernel accepts one pid per write; retries are bounded (here nothing moves)."""
    cgroup_at(tmp_path, "4711\n4712\n")
    (tmp_path / SERVER_CGROUP).mkdir()
    moved = tmp_path / SERVER_CGROUP / "cgroup.procs"
    moved.touch()
    vacate(tmp_path)
    assert "4712" == moved.read_text()


def test_cgroup_that_cannot_be_vacated_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log contains the kernel's error; limits are rejected later with their own reason."""
    cgroup_at(tmp_path, "4711\n")
    vacate(tmp_path)
    assert [True] == [f"cannot move processes out of {tmp_path}" in message for message in caplog.messages]
