"""The supervisor dies at each step of a termination: no process gets its signal twice."""

import subprocess
import sys

import pytest

from worker.core.steps import Step

from ..support.restarting_installation import RestartingInstallation

COUNT = """
import os, signal, sys
counts = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
names = {True: b"other\\n", False: b"main\\n"}
name = names[os.fork() == 0]
signal.signal(signal.SIGTERM, lambda *_: os.write(counts, name))
os.write(counts, b"ready\\n")
if sys.argv[2] == "exits" and name == b"main\\n":
    while open(sys.argv[1]).read().count("ready") < 2:
        pass
    sys.exit(0)
while True:
    signal.pause()
"""
"""Main process and child write a line for each SIGTERM, and go on."""

GRACE = "4s"

STEPS = [
    ("main", Step.TERMINATION_RECORDED, ["other"]),  # recorded, and not sent: at most once
    ("main", Step.SIGNALED, ["main", "other"]),
    ("others", Step.TERMINATION_RECORDED, ["main"]),
    ("others", Step.SIGNALED, ["main", "other"]),
]


@pytest.fixture
def counts(restarting: RestartingInstallation, until):
    """Functions that start the job, and that return the signals its processes have got."""
    path = restarting.home.parent / "counts"

    def start(*options, exits="stays"):
        command = [sys.executable, "-c", COUNT, str(path), exits]
        job = restarting.installation.start("--grace", GRACE, *options, *command)
        until(lambda: path.exists() and path.read_text().count("ready") == 2)
        return job

    yield start, lambda: sorted(line for line in path.read_text().split() if line != "ready")
    path.unlink()


@pytest.mark.parametrize(("signalled", "step", "expected"), STEPS)
@pytest.mark.parametrize("cause", ["stopped", "timed out"])
def test_no_signal_is_repeated(
    restarting: RestartingInstallation, until, counts, cause, signalled, step, expected
):
    """Each process gets SIGTERM once, or not at all if the supervisor dies before it has sent it."""
    start, signals = counts
    worker = restarting.installation
    crash_points = []
    if signalled == "main":
        crash_points.append(restarting.set_crash_point("supervisor", step))
    job = start(*(["--timeout", "3s"] if cause == "timed out" else []))
    command = [*worker.command, "stop" if cause == "stopped" else "wait", job]
    with subprocess.Popen(command, env=worker.env, stdout=subprocess.DEVNULL) as ending:
        if signalled == "others":
            until(lambda: "main" in signals())
            crash_points.append(restarting.set_crash_point("supervisor", step))
        ending.wait()
    [crash_point] = crash_points
    assert not crash_point.exists()
    facts = worker.query(job)
    assert (cause, 137) == (facts["cause"], facts["exit_code"])
    assert expected == signals()
    worker.worker("remove", job)


@pytest.mark.parametrize(
    ("step", "expected"), [(Step.TERMINATION_RECORDED, ["other"]), (Step.SIGNALED, ["other"])]
)
def test_no_leftover_is_signalled_twice(restarting: RestartingInstallation, counts, step, expected):
    """The linger is recorded too: the successor of the supervisor ends it at the same time."""
    start, signals = counts
    crash_point = restarting.set_crash_point("supervisor", step)
    job = start("--linger", "2s", exits="exits")
    assert 0 == restarting.installation.wait(job)["exit_code"]
    assert not crash_point.exists()
    assert expected == signals()
    restarting.installation.worker("remove", job)
