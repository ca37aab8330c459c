"""Limits that are removed, checked and rejected while a job runs."""

import os
import sys
from pathlib import Path

import pytest

from ..support.fixtures import Install
from ..support.followed import Until
from ..support.installation import Installation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: control groups are created")

FILES = {
    "cpu": [("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")],
    "cpu-weight": [("cpu.weight", "100"), ("cpu.shares", "1024")],
    "memory": [("memory.max", "max"), ("memory.limit_in_bytes", "9223372036854771712")],
    "pids": [("pids.max", "max")],
}
"""The file of a limit on v2 and on v1, and what it contains without the limit."""

VALUES = {"cpu": "0.5", "cpu-weight": "50", "memory": "300M", "pids": "50"}

KEEP = """
import signal, sys
block = bytearray(int(sys.argv[1]) << 20)
for position in range(0, len(block), 4096):
    block[position] = 1
print("ready", flush=True)
signal.pause()
"""


def content(shared: Installation, job: str, limit: str) -> str:
    """Return the first word in the kernel's file of a limit."""
    groups = [path for path in shared.cgroups() if path.name == job]
    files = [path / name for name, _ in FILES[limit] for path in groups if (path / name).exists()]
    assert files
    return files[0].read_text().split()[0]


@pytest.mark.parametrize("word", ["unlimited", "max"])
@pytest.mark.parametrize("limit", FILES)
def test_a_limit_is_removed(shared: Installation, limit: str, word: str) -> None:
    """`unlimited` removes a limit in the kernel and in the status; the others stay."""
    given = [f"--{name}={value}" for name, value in VALUES.items()]
    job = shared.start(*given, "sleep", "1000")
    nothing = {value for _, value in FILES[limit]}
    assert content(shared, job, limit) not in nothing
    shared.worker("update", f"--{limit}", word, job)
    assert content(shared, job, limit) in nothing
    line = next(
        line for line in shared.worker("query", "-o", "wide", job).splitlines() if "Limits:" in line
    )
    others = [f"{name} {value}" for name, value in VALUES.items() if name != limit]
    assert f"Limits:    {', '.join(others)}" == line
    shared.worker("stop", job)


def test_all_cpus_again(shared: Installation) -> None:
    """Without its list of CPUs a job may run on all of them."""
    job = shared.start("--cpus", "0", "sleep", "1000")
    shared.worker("update", "--cpus", "unlimited", job)
    assert shared.query(job)["limits"]["cpuset"] is None
    assert os.sched_getaffinity(0) <= os.sched_getaffinity(shared.query(job)["pid"])
    shared.worker("stop", job)


def test_a_rate_of_a_device_is_removed(shared: Installation, tmp_path: Path) -> None:
    """A rate is removed by the name of the device that it was set with."""
    if os.major(tmp_path.stat().st_dev) == 0:
        pytest.skip("the temporary directory is on no block device")
    job = shared.start("--io-read", f"{tmp_path}=4M", "--io-write", f"{tmp_path}=4M", "sleep", "1000")
    shared.worker("update", "--io-read", f"{tmp_path}=unlimited", job)
    assert [(None, 4 << 20)] == [
        (each["read_bytes_per_second"], each["write_bytes_per_second"])
        for each in shared.query(job)["limits"]["io"]
    ]
    done = shared.run("update", "--io-write", "/other=unlimited", job)
    assert b"--io-... /other: has no limit; the limits are those of" in done.stderr
    shared.worker("update", "--io-write", f"{tmp_path}=max", job)
    assert [] == shared.query(job)["limits"]["io"]
    shared.worker("stop", job)


def test_the_largest_number_is_no_limit(shared: Installation) -> None:
    """A limit that the kernel treats as none is shown as `unlimited`."""
    job = shared.start("--memory", "9223372036854775807", "--pids", "9", "true")
    assert "Limits:    memory unlimited, pids 9\n" in shared.worker("query", "-o", "wide", job)


def test_defaults_and_maxima(install: Install, tmp_path: Path) -> None:
    """At a start `unlimited` replaces a default; a maximum rejects it, at a start and at an update."""
    installation = install(tmp_path / "home")
    config = tmp_path / "worker.toml"
    config.write_text("[limits.default]\nmemory = '500M'\npids = 30\n\n[limits.maximum]\npids = 40\n")
    installation.worker("up", "--config", str(config))
    job = installation.start("--memory", "unlimited", "sleep", "1000")
    limits = installation.query(job)["limits"]
    assert (None, 30) == (limits["memory"]["max"], limits["pids"])
    installation.worker("update", "--cpu", "0.5", job)
    assert installation.query(job)["limits"]["memory"]["max"] is None
    reason = "worker: --pids: unlimited is above this server's maximum"
    for command in (["start", "--pids", "unlimited", "true"], ["update", "--pids", "max", job]):
        assert installation.run(*command).stderr.decode().startswith(reason)


def test_unchanged_limits_are_not_checked(install: Install, tmp_path: Path) -> None:
    """A server with lower maxima accepts an update that leaves the limits above them as they are."""
    installation = install(tmp_path / "home")
    installation.worker("up")
    job = installation.start("--cpu", "2", "--memory", "100M", "--pids", "50", "sleep", "1000")
    installation.worker("down")
    installation.worker("up", "--max-cpu", "1", "--max-pids", "10", "--max-memory", "200M")
    installation.worker("update", "--memory", "40M", job)
    limits = installation.query(job)["limits"]
    assert (2, 50, 40 << 20) == (limits["cpu"]["quota"], limits["pids"], limits["memory"]["max"])
    done = installation.run("update", "--cpu", "1.5", job)
    assert b"--cpu: 1.5 is above this server's maximum of 1" in done.stderr


@pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) > 1, reason="the kernel would swap the memory out"
)
def test_a_memory_limit_below_the_usage(shared: Installation, until: Until) -> None:
    """It is rejected with what the job uses, changes nothing, and the job continues."""
    job = shared.start("--memory", "500M", sys.executable, "-c", KEEP, "60")
    until(lambda: b"ready" in shared.run("stream", "--no-follow", job).stdout)
    before = content(shared, job, "memory")
    done = shared.run("update", "--pids", "100", "--memory", "40M", job)
    message = done.stderr.decode()
    prefix = "worker: --memory: 41943040 bytes (40.0 MiB) is less than the job uses, "
    assert message.startswith(prefix)
    used = int(message.removeprefix(prefix).split()[0])
    assert 60 << 20 <= used <= 100 << 20
    assert "/sys" not in message
    facts = shared.query(job)
    assert ("running", 500 << 20, None) == (
        facts["state"],
        facts["limits"]["memory"]["max"],
        facts["limits"]["pids"],
    )
    assert before == content(shared, job, "memory")
    shared.worker("update", "--memory", "200M", job)
    shared.worker("stop", job)
