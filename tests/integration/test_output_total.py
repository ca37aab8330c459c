"""The bound on the output of all jobs: those that write on wait, visibly, until there is room."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.linux.recorder.output_bound import BOUND_REACHED

from ..support.fixtures import Install
from ..support.installation import Installation

Until = Callable[[Callable[[], bool]], None]

TOTAL = 4 << 20
AT_ONCE = 1 << 20


@pytest.fixture
def bounded(tmp_path: Path, install: Install) -> Installation:
    """A running worker that keeps at most 4 MiB of output."""
    worker = install(tmp_path / "home")
    worker.env["WORKER_OUTPUT_TOTAL"] = "4M"
    worker.worker("up")
    return worker


def waits(worker: Installation, job: str) -> Callable[[], bool]:
    """Return a condition: the output of a job waits."""
    return lambda: worker.query(job)["output_trouble"] == BOUND_REACHED


def recorded(worker: Installation, job: str) -> int:
    """Return how many bytes of output are recorded, from the first one on."""
    return (worker.home / "jobs" / job / "output-0").stat().st_size


def test_writers_wait(bounded: Installation, until: Until) -> None:
    """A job at the bound blocks, also for the next recorder; it can be stopped, and others end."""
    job = bounded.start("--output-max", "all", "yes")
    until(waits(bounded, job))
    size = recorded(bounded, job)
    assert TOTAL <= size <= TOTAL + AT_ONCE
    assert BOUND_REACHED in bounded.worker("query", "-o", "wide", job)
    findings = json.loads(bounded.worker("doctor", "-o", "json", code=None))["findings"]
    assert [True] == [BOUND_REACHED in each["text"] for each in findings if each["subject"] == f"job {job}"]
    bounded.kill(bounded.recorder_pid())
    until(lambda: bounded.recorder_pid() != 0)
    until(waits(bounded, job))
    assert size == recorded(bounded, job)
    assert b"short\n" == bounded.stream(bounded.start("echo", "short"))
    bounded.worker("stop", job)
    assert 0 == bounded.query(job)["output_missing"]


def test_a_terminal_at_the_bound(bounded: Installation, until: Until) -> None:
    """A job with a terminal can be stopped too: what is in the terminal is recorded first."""
    job = bounded.start("-t", "--output-max", "all", "yes")
    until(waits(bounded, job))
    bounded.worker("stop", job)
    assert ("exited", 0) == (bounded.query(job)["state"], bounded.query(job)["output_missing"])


def test_removed_output_makes_room(bounded: Installation, until: Until) -> None:
    """The output of finished jobs counts until they are removed; then a job that waits continues."""
    first = bounded.start("--output-max", "all", "head", "-c", str(TOTAL), "/dev/zero")
    bounded.wait(first)
    second = bounded.start("yes")
    until(waits(bounded, second))
    assert recorded(bounded, second) < TOTAL
    bounded.worker("remove", first)
    until(lambda: recorded(bounded, second) >= TOTAL)
    until(waits(bounded, second))
    bounded.worker("stop", second)
