"""The file system of the state directory, compared with stat(1)."""

import subprocess
from pathlib import Path

from worker.cli.doctor.file_system import file_system


def test_the_file_system_is_that_of_stat() -> None:
    """Type and access agree with the output of stat(1)."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True, check=True
    ).stdout
    found = file_system(Path("/dev/shm"))
    assert ("tmpfs\n", "tmpfs", False) == (kind, found.kind, found.read_only)


def test_the_type_is_unknown_without_mountinfo(tmp_path: Path) -> None:
    """The free space is reported nevertheless."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("")
    found = file_system(tmp_path, mountinfo)
    assert ("unknown", True) == (found.kind, found.free > 0)
