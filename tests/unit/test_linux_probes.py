"""What is tried out on this kernel, and how mounts are read."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from worker.linux.kernel import probes


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
        probes.clone_into_cgroup(Path("/nonexistent/probe"))
    with pytest.raises(OSError, match="No such file or directory"):
        probes.recording(Path("/nonexistent"))
