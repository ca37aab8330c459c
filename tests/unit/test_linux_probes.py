"""Probes of this kernel."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from worker.linux.kernel import probes


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Python was built for a kernel without pidfds")
def test_probes_leave_no_child_and_no_descriptor() -> None:
    """Both after success and after failure."""
    before = sorted(os.listdir("/proc/self/fd"))
    for probe in (probes.pidfd, probes.exit_kept_by_pidfd):
        with suppress(OSError):
            probe()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert before == sorted(os.listdir("/proc/self/fd"))


def test_probes_raise_the_kernel_s_reason() -> None:
    """A directory that does not exist is an example."""
    with pytest.raises(OSError, match="No such file or directory"):
        probes.clone_into_cgroup(Path("/nonexistent/probe"))
    with pytest.raises(OSError, match="No such file or directory"):
        probes.recording(Path("/nonexistent"))
