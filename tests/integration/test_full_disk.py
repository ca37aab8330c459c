"""A disk that a job fills: other jobs are stopped, removed and started again without manual help."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.mounts import fill

Until = Callable[[Callable[[], bool]], None]

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")

RESERVE = 1 << 20


@pytest.fixture
def full(small_disk: Path, install: Install, until: Until) -> tuple[Installation, str]:
    """A worker whose disk is full of the output of a job of nobody, and that job."""
    worker = install(small_disk)
    worker.env["WORKER_RESERVE"] = str(RESERVE)
    worker.worker("up")
    until((small_disk / f"reserve-{RESERVE}").exists)
    job = worker.start("--output-max", "0", "--user", "nobody", "yes")
    until(lambda: worker.query(job)["output_trouble"] == "No space left on device")
    return worker, job


@AS_ROOT
def test_a_job_that_fills_the_disk_is_stopped_and_removed(full: tuple[Installation, str]) -> None:
    """Stop completes with all output thanks to the reserve, all is recorded, then Remove and Start work."""
    worker, job = full
    fill(worker.home)
    for _ in range(6):  # their records do not fit into the last page of the audit log
        worker.worker("signal", job, "CONT")
    assert f"Job {job} has been stopped\n" == worker.worker("stop", job)
    status = worker.query(job)
    assert ("exited", "stopped", 0) == (status["state"], status["cause"], status["output_missing"])
    assert status["output"]["output"]["end"] == len(worker.stream(job))
    worker.worker("remove", job)
    (worker.home / "filler").unlink()
    assert b"again\n" == worker.stream(worker.start("echo", "again"))
    records = [json.loads(line) for line in (worker.home / "audit.log").read_text().splitlines()]
    assert "records_lost" not in {each["event"] for each in records}
    done = [(each["method"], each["code"]) for each in records if each["event"] == "outcome"]
    assert [("Signal", "OK")] * 6 + [("Stop", "OK")] == [
        each for each in done if each[0] in {"Signal", "Stop"}
    ]


@AS_ROOT
def test_a_stop_says_what_is_missing(
    full: tuple[Installation, str], small_disk: Path, until: Until
) -> None:
    """If nothing is left of the reserve, Stop completes too, and states how many bytes are missing."""
    worker, job = full
    os.truncate(small_disk / f"reserve-{RESERVE}", 0)
    fill(small_disk)
    stopped = json.loads(worker.worker("stop", "-o", "json", job))
    assert 0 < stopped["output_missing"] <= 65536  # what was in the pipe
    note = f"the last {stopped['output_missing']} bytes of its output could not be recorded"
    assert note in worker.worker("query", "-o", "wide", job)
    end = worker.query(job)["output"]["output"]["end"]
    assert end == len(worker.stream(job))
    worker.worker("remove", job)
    (small_disk / "filler").unlink()
    assert b"again\n" == worker.stream(worker.start("echo", "again"))
    until(lambda: (small_disk / f"reserve-{RESERVE}").stat().st_size == RESERVE)


@AS_ROOT
def test_the_end_of_another_job_is_recorded(full: tuple[Installation, str], until: Until) -> None:
    """A job that ends on a full disk has its exit code, also for the next server and supervisor."""
    worker, job = full
    pid = worker.query(job)["pid"]
    os.kill(int(str(pid)), 9)
    until(lambda: worker.query(job)["state"] == "exited")
    worker.kill(worker.server_pid())
    worker.kill(worker.supervisor_pid())
    worker.worker("up")
    assert (True, 137) == (worker.query(job)["exited"], worker.query(job)["exit_code"])


@AS_ROOT
def test_output_waits_until_the_reserve_is_whole(
    full: tuple[Installation, str], small_disk: Path, until: Until
) -> None:
    """What the reserve gives back is not used up by a job that writes on; with space it continues."""
    worker, job = full
    os.truncate(small_disk / f"reserve-{RESERVE}", RESERVE // 2)
    (small_disk / "record").write_bytes(bytes(4096))
    before = worker.query(job)["output"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    until(lambda: worker.query(job)["output"] != before)
    assert RESERVE == (small_disk / f"reserve-{RESERVE}").stat().st_size
    worker.worker("stop", job)
