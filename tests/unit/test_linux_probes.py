"""Probes of this kernel."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from worker.linux.kernel import probes


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Python was built for a kernel without pidfds")
def test_probes_leave_no_child_and_no_descriptor() -> None:
    """Both after success and after failure."""
    before = sorted(os.listdir("/proc/self/fd"))
    for probe in (probes.pidfd, probes.exit_kept_by_pidfd, probes.session_keyring):
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


NO_NEW_PRIVS = """
import ctypes
from worker.linux.kernel import probes
before = probes.has_no_new_privs()
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
print(before, probes.has_no_new_privs())
"""


def test_no_new_privs_is_seen() -> None:
    """The flag of the process is read, which no program can clear again."""
    done = subprocess.run([sys.executable, "-c", NO_NEW_PRIVS], capture_output=True, text=True, check=True)
    assert done.stdout in {"False True\n", "True True\n"}
