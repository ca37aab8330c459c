"""`worker debug`: what a job waits for, from the server, the supervisor and the files."""

import asyncio
import json
import os
import signal
import sys

import pytest

from worker import JobSpec
from worker.core.testing import MemoryOutputStore

from ..support.mounts import read_only
from ..support.served import make_worker, serving


def debug(installation, job):
    """Return the report on a job."""
    return json.loads(installation.worker("debug", "-o", "json", job))


def test_a_running_job(installation):
    """The report has the state from both sides, the process, and who holds the FIFO."""
    job = installation.start("sh", "-c", "echo hello; exec sleep 1000")
    found = debug(installation, job)
    assert ("running", "running") == (found["server"]["state"], found["supervisor"]["state"])
    assert installation.supervisor_pid() == found["supervisor"]["pid"]
    assert installation.recorder_pid() == found["recorder"]["pid"]
    assert installation.query(job)["pid"] in {each["pid"] for each in found["processes"]}
    assert "to exit" in found["waits_for"]
    holders = {each["pid"]: each["files"] for each in found["holders"]}
    for pid in (installation.server_pid(), installation.supervisor_pid(), installation.recorder_pid()):
        assert "output.fifo" in holders[pid]
    text = installation.worker("debug", job)
    assert f"Job {job}\nWaits for: Process " in text
    installation.worker("stop", job)


def test_a_job_that_is_being_stopped(installation, until):
    """The report says which signal follows, and when."""
    script = "trap '' TERM; echo ready; while :; do sleep 1; done"
    job = installation.start("--grace", "50s", "sh", "-c", script)
    until(lambda: b"ready\n" == installation.run("stream", "--no-follow", job).stdout)
    pid = os.fork()
    if pid == 0:
        installation.run("stop", job)
        os._exit(0)
    until(lambda: "stopping" == debug(installation, job)["supervisor"]["state"])
    assert "SIGKILL follows in " in debug(installation, job)["waits_for"]
    installation.worker("stop", "--signal", "KILL", job)
    os.waitpid(pid, 0)


def test_a_stopped_supervisor(installation):
    """The report names a supervisor that does not answer, and has the rest from the files."""
    job = installation.start("sleep", "1000")
    supervisor = installation.supervisor_pid()
    os.kill(supervisor, signal.SIGSTOP)
    try:
        found = debug(installation, job)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert f"supervisor {supervisor} does not answer" in found["waits_for"]
    assert "it has not answered for 2 s" == found["supervisor"]["error"]
    assert "running" == found["server"]["state"]
    installation.worker("stop", job)


def test_without_a_server(installation):
    """The supervisor and the files are read without a server."""
    job = installation.start("sleep", "1000")
    installation.kill(installation.server_pid())
    found = debug(installation, job)
    assert "cannot reach the server" in found["server"]["error"]
    assert "running" == found["supervisor"]["state"]
    installation.worker("up")
    installation.worker("stop", job)


def test_a_finished_and_an_unknown_job(installation):
    """A finished job waits for nothing; an unknown one is an error."""
    job = installation.start("true")
    installation.wait(job)
    assert "Nothing: the job has finished." == debug(installation, job)["waits_for"]
    done = installation.run("debug", "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
    assert 1 == done.returncode
    assert b"Job 6ba7b810-9dad-41d1-80b4-00c04fd430c8 not found" in done.stderr


def test_a_finished_job_without_a_server(installation):
    """The history is deleted once the end is journaled: nothing is left to do for any process."""
    job = installation.start("true")
    installation.wait(job)
    installation.worker("down")
    waits_for = "Nothing: the end is journaled, and the supervisor has released the job."
    assert waits_for == debug(installation, job)["waits_for"]
    assert "\nRecorder: no history names the generation of this job\n" in installation.worker("debug", job)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_read_only_home(installation):
    """The report needs to write nothing: a read-only file system is what a job may wait for."""
    job = installation.start("sleep", "1000")
    with read_only(installation.home):
        found = debug(installation, job)
    assert ("running", "running") == (found["server"]["state"], found["supervisor"]["state"])
    assert installation.recorder_pid() == found["recorder"]["pid"]
    installation.worker("stop", job)


def test_a_home_that_is_a_symbolic_link(installation, tmp_path):
    """The open files are found: /proc shows them by their real path."""
    job = installation.start("sleep", "1000")
    (tmp_path / "link").symlink_to(installation.home)
    direct = debug(installation, job)["holders"]
    assert [] != direct
    installation.env["WORKER_HOME"] = str(tmp_path / "link")
    assert direct == debug(installation, job)["holders"]
    installation.env["WORKER_HOME"] = str(installation.home)
    installation.worker("stop", job)


async def test_a_server_that_does_not_answer(pki, tmp_path):
    """A server may hang in a call to an adapter; the report ends all the same, and without a retry."""

    class StuckStore(MemoryOutputStore):
        async def extent(self, job, channel):
            await asyncio.Event().wait()
            return await super().extent(job, channel)

    async with serving(pki, make_worker(outputs=StuckStore())) as served:
        job = await served.worker.start(JobSpec("sleep", ["1000"]))
        (tmp_path / "pki").symlink_to(pki)
        command = [sys.executable, "-P", "-m", "worker.cli.main", "debug", "-o", "json", str(job)]
        environment = {
            **os.environ,
            "WORKER_HOME": str(tmp_path),
            "WORKER_SERVER": f"{served.host}:{served.port}",
        }
        debugging = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(debugging.communicate(), 60)
        await served.worker.stop(job)
    assert "the server has not answered for 5 s" == json.loads(output)["server"]["error"]


def test_the_log_settings_reach_running_processes(install, tmp_path):
    """A server that is restarted with --log-level debug and --log-format json: all processes follow."""
    installation = install(tmp_path / "home")
    installation.worker("up")
    running = installation.start("sleep", "1000")
    supervisor, recorder = installation.supervisor_pid(), installation.recorder_pid()
    log = installation.home / "supervisor" / "log"
    before = log.stat().st_size
    installation.worker("down")
    installation.worker("up", "--log-level", "debug", "--log-format", "json")
    assert (supervisor, recorder) == (installation.supervisor_pid(), installation.recorder_pid())
    job = installation.start("echo", "out")
    installation.wait(job)
    events = [json.loads(line) for line in log.read_text()[before:].splitlines() if line.startswith("{")]
    steps = {(each["process"], each["step"]) for each in events if each.get("job") == job}
    assert {("supervisor", "cloned"), ("supervisor", "exit-recorded"), ("recorder", "spliced")} <= steps
    installation.worker("stop", running)
