"""Who besides root and this user could replace a file."""

import os
from errno import ELOOP
from pathlib import Path

import pytest

from worker.linux.kernel.path_walk import PathWalk, Weakness, weakness_of

OTHER = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in directories of this user."""
    for name in ("a", "a/b"):
        (tmp_path / name).mkdir(mode=0o755)
    found = tmp_path / "a/b/file"
    found.touch(mode=0o644)
    return found


def test_a_file_that_nobody_else_can_replace(file: Path) -> None:
    """Also below /tmp: in a sticky directory users can rename only what is theirs."""
    assert weakness_of(str(file)) is None
    file.parent.chmod(0o1777)
    assert weakness_of(str(file)) is None
    (file.parent.parent / "link").symlink_to("b/file")
    assert weakness_of(str(file.parent.parent / "link")) is None


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("name", ["a", "a/b", "a/b/file"])
def test_what_others_can_write(file: Path, name: str, mode: int) -> None:
    """The file, or a directory above it that is not sticky; a file cannot be sticky."""
    weak = file.parents[2] / name
    weak.chmod(weak.stat().st_mode | mode | (0o1000 if weak == file else 0))
    assert Weakness(str(weak)) == weakness_of(str(file))


@AS_ROOT
@pytest.mark.parametrize("name", ["a", "a/b", "a/b/file"])
def test_what_belongs_to_others(file: Path, name: str) -> None:
    """The owner of a directory can replace what is in it, also if it is sticky."""
    weak = file.parents[2] / name
    os.chown(weak, OTHER, -1)
    weak.chmod(0o1755)
    assert Weakness(str(weak), OTHER) == weakness_of(str(file))


@AS_ROOT
def test_a_link_of_somebody_else(file: Path) -> None:
    """Its owner can let it lead elsewhere."""
    link = file.parent / "link"
    link.symlink_to(file)
    os.chown(link, OTHER, -1, follow_symlinks=False)
    assert Weakness(str(link), OTHER) == weakness_of(str(link))


def test_a_path_without_a_file(file: Path) -> None:
    """The error is that of the kernel."""
    with pytest.raises(FileNotFoundError):
        weakness_of(str(file.parent / "missing"))


def test_links_that_lead_through_very_many_directories(tmp_path: Path) -> None:
    """A client can make such links; to follow them costs a second, and there are several at once."""
    (tmp_path / "d").mkdir()
    for number in range(6):
        (tmp_path / f"link{number}").symlink_to("d/../" * 800 + f"link{number + 1}")
    (tmp_path / "link6").symlink_to("d")
    assert str(tmp_path / "d") == PathWalk().follow(str(tmp_path / "link1"))
    with pytest.raises(OSError, match="Too many levels") as caught:
        PathWalk().follow(str(tmp_path / "link0"))
    assert ELOOP == caught.value.errno
