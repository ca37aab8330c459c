"""Full disks, exhausted limits and processes that die at a bad moment: results are late, never wrong."""

import asyncio
import json
import os
import re
import signal
import subprocess

from worker import JobSpec
from worker.client.job import Job
from worker.core.model.ending import Exited


def test_a_full_disk_delays_and_loses_nothing(small_disk, install, tmp_path, until):
    """A job that fills the disk blocks; one that ends meanwhile keeps its exit code, also after a crash."""
    worker = install(small_disk)
    worker.worker("up")
    gate = tmp_path / "gate"
    ending = worker.start("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 5")
    filling = worker.start("head", "-c", "20000000", "/dev/zero")
    until(lambda: os.statvfs(small_disk).f_bavail == 0)
    until(lambda: worker.query(filling)["output_trouble"] == "No space left on device")
    gate.touch()
    until(lambda: worker.query(ending)["exited"])
    assert 5 == worker.query(ending)["exit_code"]
    worker.kill(worker.server_pid())
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    worker.worker("up")
    assert 5 == worker.wait(ending)["exit_code"]
    assert bytes(20_000_000) == worker.stream(filling)
    assert 0 == worker.wait(filling)["exit_code"]


def test_server_killed_while_the_supervisor_is_busy(installation, until):
    """A start whose client disconnected leaves a known job or nothing, never an unknown process."""
    supervisor = installation.supervisor_pid()
    os.kill(supervisor, signal.SIGSTOP)
    try:
        starts = [
            subprocess.Popen(
                [*installation.command, "start", "--reconnect", "0", command],
                env=installation.env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in ("true", "/nonexistent")
        ]
        directories = installation.home / "jobs"
        until(lambda: len(os.listdir(directories)) == 2)
        installation.kill(installation.server_pid())
        for start in starts:
            start.wait()
    finally:
        os.kill(supervisor, signal.SIGCONT)
    installation.worker("up")
    for job in json.loads(installation.worker("list", "-o", "json")):
        assert installation.wait(job["id"])["state"] in {"exited", "lost"}


def test_output_of_a_job_that_outlives_server_and_supervisor(installation, tmp_path):
    """The recorder keeps recording when both are killed with its messages unread."""
    gate = tmp_path / "gate"
    job = installation.start("sh", "-c", f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two")

    async def start_many():
        async with installation.client() as client:
            await asyncio.gather(*(client.start(JobSpec("true")) for _ in range(20)))
            installation.kill(installation.server_pid())

    asyncio.run(start_many())
    installation.kill(installation.supervisor_pid())
    # The job ends while only the recorder runs.
    history = (installation.home / "jobs" / job / "history").read_text()
    main = os.pidfd_open(int(re.search(r'"pid": (\d+)', history)[1]))
    gate.touch()
    installation.await_pidfd(main)
    installation.worker("up")
    assert b"one\ntwo\n" == installation.stream(job)


def test_a_job_cannot_pass_for_another(installation):
    """WORKER_JOB_ID is the job's own id, even if --env sets another."""
    job = installation.start(
        "--env", "WORKER_JOB_ID=00000000-0000-4000-8000-000000000000", "printenv", "WORKER_JOB_ID"
    )
    assert f"{job}\n".encode() == installation.stream(job)


def test_few_descriptors(install, tmp_path):
    """With few descriptors starts fail with ResourceExhausted, and started jobs end normally."""
    worker = install(tmp_path / "home")
    up = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *worker.command, "up"]
    subprocess.run(up, env=worker.env, check=True, stdout=subprocess.DEVNULL)

    async def start_many():
        async with worker.client() as client:
            jobs = await asyncio.gather(
                *(client.start(JobSpec("sleep", ["1"])) for _ in range(60)), return_exceptions=True
            )
            for job in jobs:
                if isinstance(job, Exception):
                    assert "ResourceExhausted" in str(job)
                else:
                    assert Exited(0) == (await Job(client, job).wait()).ending
            return sum(not isinstance(job, Exception) for job in jobs)

    assert 0 < asyncio.run(start_many())
    worker.worker("down")
    worker.worker("up")  # with enough descriptors to remove what could not be removed before
