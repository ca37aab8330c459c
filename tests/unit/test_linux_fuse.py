"""Fuses: a process dies at the step for which one is lit, and at no other."""

import os
import signal
import subprocess
import sys

from worker.core.steps import Step
from worker.linux.crash_points import VARIABLE

PROGRAM = """
from worker.core.steps import Step, reached
from worker.linux import crash_points
crash_points.arm("server")
for step in (Step.CLONED, Step.RECORDED):
    reached(step)
    print(step, flush=True)
"""


def run(**environment):
    """Take two steps in a process of its own; return its exit status and the steps that it survived."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.split()


def test_nothing_is_armed_by_default():
    """Without the variable every step is survived."""
    assert (0, [Step.CLONED, Step.RECORDED]) == run()


def test_a_fuse_burns_once(tmp_path):
    """The first process that reaches the step dies there; the next one survives it."""
    fuse = tmp_path / f"server.{Step.RECORDED}"
    fuse.touch()
    assert (-signal.SIGKILL, [Step.CLONED]) == run(**{VARIABLE: str(tmp_path)})
    assert not fuse.exists()
    assert (0, [Step.CLONED, Step.RECORDED]) == run(**{VARIABLE: str(tmp_path)})


def test_a_fuse_is_for_one_role(tmp_path):
    """A fuse of the supervisor does nothing to the server."""
    fuse = tmp_path / f"supervisor.{Step.CLONED}"
    fuse.touch()
    assert (0, [Step.CLONED, Step.RECORDED]) == run(**{VARIABLE: str(tmp_path)})
    assert fuse.exists()
