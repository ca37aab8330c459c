"""The tutorial, typed into the terminals of two users of one machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.installation import Installation, assert_nothing_left
from ..support.tmux import Terminal, can_use_tmux
from ..support.tutorial import HOST, LAPTOP, Tutorial
from ..support.unprivileged import can_become_unprivileged, home_of_another_user, identity
from ..support.waiting import PATIENCE

MACHINE = f"""
mount --bind "$1/hosts" /etc/hosts && hostname {HOST} && ip link set lo up && echo ready
exec sleep infinity
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[list[str]]:
    """A command that enters a machine which is called as in the tutorial, with ports of its own."""
    if not (can_use_tmux() and can_become_unprivileged() and shutil.which("unshare")):
        pytest.skip("it needs root, tmux(1) and util-linux: apt-get install tmux util-linux")
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    with subprocess.Popen(
        ["unshare", "--net", "--uts", "--mount", "sh", "-ec", MACHINE, "sh", tmp_path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != b"ready\n":
                pytest.skip(f"no namespaces here: {holder.stderr.read().decode()}")
            yield ["nsenter", f"--target={holder.pid}", "--net", "--uts", "--mount", "--"]
        finally:
            holder.kill()


def test_the_tutorial_for_two_users(machine: list[str], tmp_path: Path) -> None:
    """Each command prints what the page shows, and nothing is left at the end."""
    home = tmp_path / "home"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(command: Sequence[str]) -> str:
        return subprocess.run([*machine, *command], check=True, capture_output=True, text=True).stdout

    own = {"HOME": str(tmp_path), "WORKER_HOME": str(home), "WORKER_RESERVE": "64K"}
    installation = Installation(home)
    with home_of_another_user() as directory, ExitStack() as stack:
        stack.callback(installation.down)
        host = Terminal(
            run, f"{tmp_path}/host.tmux", {"PATH": path, **own}, str(tmp_path), patience=PATIENCE
        )
        stack.callback(host.close)
        laptop = Terminal(
            run,
            f"{tmp_path}/laptop.tmux",
            {"PATH": path, "HOME": str(directory)},
            str(directory),
            prefix=identity(),
            patience=PATIENCE,
        )
        stack.callback(laptop.close)
        Tutorial({HOST: host, LAPTOP: laptop}, str(home)).follow()
    assert_nothing_left(installation)
