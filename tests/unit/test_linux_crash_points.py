"""Crash points: a process dies at the step for which one is set, and at no other."""

import os
import signal
import subprocess
import sys

from worker.core.steps import Step
from worker.linux.crash_points import VARIABLE

PROGRAM = """
from worker.core.steps import Step, reached
from worker.linux import crash_points
crash_points.enable("server")
for step in (Step.CLONED, Step.RECORDED):
    reached(step)
    print(step, flush=True)
"""


def run(**environment):
    """Take two steps in a subprocess; return its exit status and the steps that it survived."""
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


def test_no_crash_point_is_active_by_default():
    """Without the variable the process survives every step."""
    assert (0, [Step.CLONED, Step.RECORDED]) == run()


def test_a_crash_point_is_used_once(tmp_path):
    """The first process that reaches the step dies there; the next one survives it."""
    crash_point = tmp_path / f"server.{Step.RECORDED}"
    crash_point.touch()
    assert (-signal.SIGKILL, [Step.CLONED]) == run(**{VARIABLE: str(tmp_path)})
    assert not crash_point.exists()
    assert (0, [Step.CLONED, Step.RECORDED]) == run(**{VARIABLE: str(tmp_path)})


def test_a_crash_point_is_for_one_role(tmp_path):
    """A crash point of the supervisor does not affect the server."""
    crash_point = tmp_path / f"supervisor.{Step.CLONED}"
    crash_point.touch()
    assert (0, [Step.CLONED, Step.RECORDED]) == run(**{VARIABLE: str(tmp_path)})
    assert crash_point.exists()
