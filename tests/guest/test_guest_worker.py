"""The command `worker` on cgroup v2 with systemd as PID 1: as root, and in cgroups delegated to a user."""

import json
from collections.abc import Iterator

import pytest

from .installations import (
    Installation,
    RootInstallation,
    UserScopeInstallation,
    UserServiceInstallation,
)
from .machine import Guest

MIB = 1 << 20

FORK_STORM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except BlockingIOError:
        time.sleep(0.01)
"""

FUGITIVES = """
(setsid sleep 1000 &)
(setsid setsid --fork sleep 1000 &)
(setsid sh -c 'trap "" TERM; kill -STOP $$' &)
echo ready
exec sleep 1000
"""


@pytest.fixture(
    scope="module",
    params=[RootInstallation, UserServiceInstallation, UserScopeInstallation],
    ids=["root", "user-service", "user-scope"],
)
def installation(request: pytest.FixtureRequest, guest: Guest) -> Iterator[Installation]:
    """A running worker; nothing remains of it afterwards."""
    kind: type[Installation] = request.param
    guest.check("loginctl", "enable-linger", "tester")  # the user has a systemd instance without a login
    guest.check("systemctl", "start", "user@1000")
    made = kind(guest)
    made.worker("certs", "init", "--key-type", "p256")
    made.up()
    yield made
    made.down()
    assert [] == made.cgroups()


def test_a_job_starts_in_its_cgroup_with_its_limits(installation: Installation) -> None:
    """The first output of a job shows its cgroup; the kernel's files there show old and updated limits."""
    job = installation.start(
        *("--cpu", "0.5", "--memory", "64M", "--pids", "20"),
        *("sh", "-c", "cat /proc/self/cgroup; exec sleep 1000"),
    )
    hierarchy, controllers, cgroup = installation.first_line(job).split(":")
    assert ("0", "", job) == (hierarchy, controllers, cgroup.rpartition("/")[2])
    assert "50000 100000" == installation.cgroup_file(cgroup, "cpu.max")
    assert str(64 * MIB) == installation.cgroup_file(cgroup, "memory.max")
    assert "20" == installation.cgroup_file(cgroup, "pids.max")
    assert [str(installation.query(job)["pid"])] == installation.cgroup_file(cgroup, "cgroup.procs").split()
    installation.worker("update", "--memory", "32M", job)
    assert str(32 * MIB) == installation.cgroup_file(cgroup, "memory.max")
    assert "20" == installation.cgroup_file(cgroup, "pids.max")
    installation.worker("stop", job)
    assert [] == installation.cgroups()


def test_an_oom_kill_is_reported(installation: Installation) -> None:
    """A job that exceeds its memory limit is killed, and its end states the cause."""
    job = installation.start("--memory", "32M", "python3", "-c", "b'x' * (256 << 20)")
    assert "137\n" == installation.worker("wait", job, code=None)
    facts = installation.query(job)
    assert ("OOM killed", 1, 9) == (facts["cause"], facts["oom_kills"], facts["signal"])
    usage = facts["usage"]
    assert isinstance(usage, dict)
    assert 16 * MIB < usage["memory_peak"] <= 32 * MIB


def test_a_fork_storm_stays_below_its_limit_and_can_be_stopped(installation: Installation) -> None:
    """Processes that fork forever and ignore SIGTERM do not exceed the limit, and all are killed."""
    job = installation.start("--pids", "20", "--cpu", "0.5", "--grace", "1s", "python3", "-c", FORK_STORM)
    (cgroup,) = installation.cgroups()
    installation.wait_until(f"grep -q 'max [1-9]' /sys/fs/cgroup{cgroup}/pids.events")
    assert "20" == installation.cgroup_file(cgroup, "pids.current")
    assert 20 == len(installation.processes(job))
    installation.worker("stop", job)
    assert [] == installation.processes(job)
    assert [] == installation.cgroups()


def test_no_process_escapes_a_stop(installation: Installation) -> None:
    """Separate sessions, double forks and SIGSTOP do not keep processes of a job alive."""
    job = installation.start("--grace", "1s", "sh", "-c", FUGITIVES)
    assert "ready" == installation.first_line(job)
    installation.wait_until(f"[ $(grep -slz '^WORKER_JOB_ID={job}$' /proc/[0-9]*/environ | wc -l) = 4 ]")
    installation.worker("stop", job)
    assert [] == installation.processes(job)
    assert [] == installation.cgroups()


def test_jobs_survive_the_server(installation: Installation) -> None:
    """After kill -9 of the server its jobs continue in their cgroups; the next server knows them all."""
    gate = f"/tmp/{type(installation).__name__}"
    wait_for_gate = f"echo ready; until [ -e {gate} ]; do sleep 0.1; done; exit 6"
    ended = installation.start("--pids", "5", "sh", "-c", wait_for_gate)
    running = installation.start("--pids", "7", "sh", "-c", "echo ready; exec sleep 1000")
    assert ["ready", "ready"] == [installation.first_line(job) for job in (ended, running)]
    (cgroup,) = (cgroup for cgroup in installation.cgroups() if cgroup.endswith(running))
    installation.kill_server()
    installation.guest.check("touch", gate)
    installation.wait_until(f"! grep -slz '^WORKER_JOB_ID={ended}$' /proc/[0-9]*/environ")
    assert "7" == installation.cgroup_file(cgroup, "pids.max")
    installation.up()
    jobs = {job["id"]: job for job in json.loads(installation.worker("list", "-o", "json"))}
    assert ("exited", 6) == (jobs[ended]["state"], jobs[ended]["exit_code"])
    assert ("running", None) == (jobs[running]["state"], jobs[running]["exit_code"])
    assert "1" == installation.cgroup_file(cgroup, "pids.current")
    installation.worker("stop", running)
    assert [] == installation.cgroups()
