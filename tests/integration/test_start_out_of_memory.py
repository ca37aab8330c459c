"""A memory limit that is too low for the start itself: the start fails, and our processes survive."""

import os
from pathlib import Path

import pytest

from ..support.installation import Installation

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not any(Path("/sys/fs/cgroup").glob("**/memory*max*")),
    reason="no memory limit can be set here",
)

ALMOST_TWO_MEGABYTES = ["y" * 100_000] * 18


@pytest.mark.parametrize(
    ("memory", "arguments"),
    [("4096", []), ("1M", ALMOST_TWO_MEGABYTES)],
    ids=["4096", "1M"],
)
def test_a_limit_too_low_to_start(shared: Installation, memory: str, arguments: list[str]) -> None:
    """The OOM killer ends the child before its exec: no job has started, and the reason is reported."""
    before = shared.supervisor_pid(), shared.zygote_pid()
    done = shared.run("run", "--memory", memory, "true", *arguments)
    assert 125 == done.returncode
    assert b"--memory: the limit is too low to execute true" in done.stderr
    assert b"alive\n" == shared.run("run", "echo", "alive").stdout
    assert before == (shared.supervisor_pid(), shared.zygote_pid())
    assert [] == shared.cgroups()
