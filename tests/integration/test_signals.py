"""Signals, pause and resume through the real command, and where they are not possible."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from worker import JobSpec
from worker.client.job import Job
from worker.core.errors import ActionRefused
from worker.core.model.ending import Cause, Signaled
from worker.core.ports import Placement

from ..support.cgroups import HIERARCHY, needs_cgroups

REPORT = """
import os, signal
def report(number, _):
    os.write(1, b"%d\\n" % number)
for number in range(1, signal.NSIG):
    if number not in {9, 19, 32, 33}:
        signal.signal(number, report)
if os.fork() == 0:
    os.write(1, b"ready\\n")
while True:
    signal.pause()
"""

COUNT = """
import itertools, os, time
for number in itertools.count():
    os.write(1, b"%d\\n" % number)
    time.sleep(0.005)
"""

V1_FREEZER = HIERARCHY.legacy.get("freezer")


def lines(worker, job):
    """Return the lines of a job so far."""
    return worker.worker("stream", "--no-follow", job).split()


def refused(done):
    """Return the reason of a call that has failed with FailedPrecondition."""
    reason = done.stderr.decode().removeprefix("worker: ")
    assert (1, True) == (done.returncode, reason != done.stderr.decode())
    return reason.strip()


def finished(job):
    """Return the reason if the main process of a job has ended; others may be left."""
    return f"The process of job {job} is already finished; `worker query {job}` prints how it ended"


def test_a_signal_ends_nothing(shared, until):
    """The main process gets it, with --all every process; the state of the job is the same afterwards."""
    job = shared.start(sys.executable, "-c", REPORT)
    until(lambda: ["ready"] == lines(shared, job))
    assert f"Job {job} has been signalled\n" == shared.worker("signal", job, "HUP")
    until(lambda: ["ready", "1"] == lines(shared, job))
    shared.worker("signal", "--all", job, "SIGTERM")
    until(lambda: ["ready", "1", "15", "15"] == lines(shared, job))
    assert "running" == shared.query(job)["state"]
    shared.worker("stop", "--signal", "KILL", job)


def test_a_signal_that_ends_the_job(shared):
    """It is a signal from elsewhere, not a stop: the job has no cause."""
    job = shared.start("sleep", "1000")
    shared.worker("signal", job, "TERM")
    facts = shared.wait(job)
    assert (143, 15, None) == (facts["exit_code"], facts["signal"], facts["cause"])


def test_a_stop_signal_is_not_continued(shared, until):
    """SIGSTOP stops the job until SIGCONT."""
    job = shared.start("sleep", "1000")
    pid = shared.query(job)["pid"]
    for name, state in (("STOP", "T"), ("CONT", "S")):
        shared.worker("signal", job, name)
        until(lambda state=state: state == Path(f"/proc/{pid}/stat").read_text().split()[2])
    shared.worker("stop", job)


def test_invalid_signals(shared):
    """Number and job are checked."""
    done = shared.run("signal", str(uuid4()), "99")
    assert (2, True) == (done.returncode, b"a signal has a number from 1 to 64" in done.stderr)
    job = shared.start("true")
    shared.wait(job)
    for verb, *arguments in (["signal", job, "HUP"], ["pause", job], ["resume", job]):
        assert finished(job) == refused(shared.run(verb, *arguments))


def test_the_main_process_has_ended(shared):
    """Only --all signals its leftovers."""
    job = shared.start("--leftovers=wait", "sh", "-c", "sleep 1000 & exit 2")
    while not shared.query(job)["exited"]:
        pass
    assert finished(job) == refused(shared.run("signal", job, "TERM"))
    shared.worker("signal", "--all", job, "TERM")
    assert 2 == shared.wait(job)["exit_code"]


@needs_cgroups
def test_a_paused_job_makes_no_progress(shared, until):
    """Its processes do not run until they are resumed, and query shows it."""
    job = shared.start(sys.executable, "-c", COUNT)
    until(lambda: len(lines(shared, job)) > 3)
    assert f"Job {job} has been paused\n" == shared.worker("pause", job)
    assert shared.query(job)["paused"]
    assert "paused" in shared.worker("query", "-o", "wide", job)
    until(lambda: lines(shared, job) == lines(shared, job))  # all output is recorded
    before = lines(shared, job)
    shared.worker("pause", job)
    assert before == lines(shared, job)
    assert f"Job {job} has been resumed\n" == shared.worker("resume", job)
    assert not shared.query(job)["paused"]
    until(lambda: len(lines(shared, job)) > len(before))
    shared.worker("stop", job)
    assert 143 == shared.query(job)["exit_code"]


@needs_cgroups
@pytest.mark.parametrize("options", [[], ["--signal", "KILL"], ["--signal-all"]])
def test_a_stop_ends_a_paused_job(shared, options):
    """It has its effect at once, as without the pause."""
    job = shared.start("--grace", "1h", "sleep", "1000")
    shared.worker("pause", job)
    shared.worker("stop", *options, job)
    facts = shared.query(job)
    assert ("stopped", 137 if "KILL" in options else 143) == (facts["cause"], facts["exit_code"])
    assert not facts["paused"]


@needs_cgroups
async def test_the_timeout_ends_a_paused_job(shared):
    """It counts while the job is paused."""
    async with shared.client() as client:
        job = str(await client.start(JobSpec("sleep", ["1000"], timeout=2.0, grace=3600.0)))
        await Job(client, job).pause()
        status = await Job(client, job).wait()
    assert (Cause.TIMED_OUT, Signaled(signal.SIGTERM)) == (status.cause, status.ending)


@needs_cgroups
def test_a_job_that_is_being_stopped_cannot_be_paused(shared, until):
    """It would not end."""
    job = shared.start("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    until(lambda: ["ready"] == lines(shared, job))
    with subprocess.Popen([*shared.command, "stop", job], env=shared.env, stdout=subprocess.DEVNULL):
        until(lambda: "stopping" == shared.query(job)["state"])
        assert "the job is being stopped" == refused(shared.run("pause", job))
        shared.worker("stop", "--grace", "0", job)


@needs_cgroups
def test_a_pause_survives_server_and_supervisor(installation, until):
    """The processes stay frozen when both are killed; the next ones know it, and can resume the job."""
    job = installation.start(sys.executable, "-c", COUNT)
    until(lambda: len(lines(installation, job)) > 3)
    installation.worker("pause", job)
    installation.kill(installation.server_pid())
    installation.kill(installation.supervisor_pid())
    installation.worker("up")
    assert installation.query(job)["paused"]
    before = lines(installation, job)
    installation.worker("resume", job)
    until(lambda: len(lines(installation, job)) > len(before))
    installation.worker("stop", job)
    assert 143 == installation.query(job)["exit_code"]


def test_no_pause_without_a_freezer(install, tmp_path):
    """Without control groups the reason is reported, and the job keeps running."""
    worker = install(tmp_path / "home")
    worker.worker("up", "--limiter", "none")
    job = worker.start("sleep", "1000")
    assert refused(worker.run("pause", job)).startswith("this host has no freezer for the job")
    assert ("running", False) == tuple(worker.query(job)[each] for each in ("state", "paused"))
    worker.worker("resume", job)
    worker.worker("stop", job)
    assert 143 == worker.query(job)["exit_code"]


@pytest.fixture
def v1_freezer() -> Iterator[Placement]:
    """A cgroup with the freezer of v1, and no other."""
    if V1_FREEZER is None or os.geteuid() != 0:
        pytest.skip("root can create cgroups with the freezer of v1, where it is mounted")
    directory = V1_FREEZER / f"worker-test-{os.getpid()}"
    directory.mkdir()
    yield Placement(legacy=(str(directory),))
    directory.rmdir()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_freezer_of_v1(machine, v1_freezer, number):
    """A frozen process of v1 gets no signal, not even SIGKILL; it is thawed after it."""
    async with machine.server() as server:
        job = await server.start("sleep", "1000", placement=v1_freezer)
        process = server.found[job]
        await process.pause()
        state = Path(v1_freezer.legacy[0], "freezer.state")
        assert ("FROZEN\n", True) == (state.read_text(), process.progress.paused)
        await process.resume()
        assert ("THAWED\n", False) == (state.read_text(), process.progress.paused)
        await process.pause()
        await process.stop(number, 3600.0)
        end = await server.end(job)
        assert (Signaled(number), Cause.STOPPED) == (end.ending, end.cause)


async def test_a_supervisor_of_an_earlier_version(machine, monkeypatch):
    """It stops jobs as before; what it does not know is refused with the reason."""
    async with machine.server() as server:
        job = await server.start("sleep", "1000")
        process = server.found[job]
        call = server.spawner.call

        async def call_earlier(job, do, **arguments):
            return await call(job, f"{do}?" if do in {"signal", "pause", "resume"} else do, **arguments)

        monkeypatch.setattr(server.spawner, "call", call_earlier)
        monkeypatch.setattr(server.spawner, "call_once", call_earlier)
        for refusal in (process.signal(1), process.pause(), process.resume()):
            with pytest.raises(ActionRefused, match="supervisor of this job is of an earlier version"):
                await refusal
        await process.stop(signal.SIGTERM, 5.0)
        assert Signaled(signal.SIGTERM) == (await server.end(job)).ending
