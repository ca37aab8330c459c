"""What is tried out on this kernel, and how mounts are read."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from worker.linux.kernel import probes


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
    """The deepest mount counts, and of several at one place the last; blanks are escaped there."""
    mountinfo = r"""
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:1 / /proc rw shared:1 master:2 - proc proc rw
3 1 254:1 / /tmp rw - ext4 /dev/vdb rw
4 1 0:2 / /tmp rw - tmpfs tmpfs rw
5 1 0:3 / /mnt/with\040space rw - nfs4 server:/x rw
"""
    assert expected == probes.find_mount(Path(path), mountinfo.split("\n"))


def test_the_file_system_is_that_of_stat() -> None:
    """Type and space agree with what stat(1) says."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", "/dev/shm"], capture_output=True, text=True, check=True
    ).stdout
    here = probes.file_system(Path("/dev/shm"))
    assert ("tmpfs\n", "tmpfs", False) == (kind, here.kind, here.read_only)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Python was built for a kernel without pidfds")
def test_probes_leave_no_child_and_no_descriptor() -> None:
    """Whether they succeed or not."""
    before = sorted(os.listdir("/proc/self/fd"))
    for probe in (probes.pidfd, probes.exit_kept_by_pidfd):
        with suppress(OSError):
            probe()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert before == sorted(os.listdir("/proc/self/fd"))


def test_a_place_where_nothing_can_be_made() -> None:
    """The kernel's reason is raised."""
    with pytest.raises(OSError, match="No such file or directory"):
        probes.birth_in_group(Path("/nonexistent"))
    with pytest.raises(OSError, match="No such file or directory"):
        probes.recording(Path("/nonexistent"))
