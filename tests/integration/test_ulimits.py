"""Ulimits and the pipe size of a job."""

import fcntl
import os
import resource
import sys
from pathlib import Path

import pytest

from ..support.installation import Installation
from ..support.unprivileged import can_become_unprivileged, unprivileged_installation

SHOW = """
import json, resource, sys
print(json.dumps(resource.getrlimit(getattr(resource, "RLIMIT_" + sys.argv[1].upper()))))
"""
PIPE_SIZE = "import fcntl; print(fcntl.fcntl(1, fcntl.F_GETPIPE_SZ))"
NOT_ROOT = "only root can run a worker as another user"


@pytest.mark.parametrize(
    ("option", "name", "limits"),
    [
        ("nofile=400:800", "nofile", "[400, 800]"),
        ("core=0", "core", "[0, 0]"),
        ("core=4096:unlimited", "core", "[4096, -1]"),
        ("nproc=500", "nproc", "[500, 500]"),
        ("stack=1048576:2097152", "stack", "[1048576, 2097152]"),
        ("cpu=3600", "cpu", "[3600, 3600]"),
        ("rtprio=0", "rtprio", "[0, 0]"),
        ("fsize=max", "fsize", "[-1, -1]"),
    ],
)
def test_a_ulimit(shared: Installation, option: str, name: str, limits: str) -> None:
    """A job has the ulimit that it requests, and `query` shows it."""
    job = shared.start("--ulimit", option, sys.executable, "-c", SHOW, name)
    assert f"{limits}\n".encode() == shared.stream(job)
    soft, hard = (None if value == -1 else value for value in eval(limits))
    assert {name: {"soft": soft, "hard": hard}} == shared.query(job)["ulimits"]
    assert f"Ulimits:   {name}=" in shared.worker("query", "-o", "wide", job)


def test_several_ulimits(shared: Installation) -> None:
    """The option may be given several times; what is not given keeps its default."""
    job = shared.start("--ulimit", "core=0", "--ulimit", "nproc=500", "cat", "/proc/self/limits")
    lines = shared.stream(job).decode().splitlines()
    values = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert ["0", "0"] == values["Max core file size"]
    assert ["500", "500"] == values["Max processes"]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert ["1024", str(hard)] == values["Max open files"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--ulimit", "files=1"], "--ulimit files=1: unknown name 'files'; known are as, core, cpu"),
        (["--ulimit", "nofile=2:1"], "--ulimit nofile=2:1: soft limit 2 is above the hard limit 1"),
        (["--ulimit", "core=0", "--ulimit", "core=1"], "ulimits.core: is given twice"),
        (["--ulimit", "nofile=1:99999999999"], "ulimits.nofile: nofile=1:99999999999: Operation not perm"),
        (["--pipe-size", "1K"], "pipe size: 1024 bytes; must be 4K to 1G"),
    ],
)
def test_invalid_values(shared: Installation, options: list[str], reason: str) -> None:
    """An invalid value is rejected, and the error names it."""
    done = shared.run("start", *options, "true")
    assert reason in done.stderr.decode()
    assert done.returncode in {1, 2}


def test_limits_that_the_job_exceeds_at_once(shared: Installation) -> None:
    """Limits apply to the command, not to what happens before it: none is too low to start a job.

    The dynamic loader of the command needs one descriptor.
    """
    job = shared.start("--ulimit", "nofile=4", "--ulimit", "fsize=0", "--ulimit", "cpu=1", "echo", "hi")
    assert b"hi\n" == shared.stream(job)


@pytest.mark.skipif(os.geteuid() != 0, reason="root may exceed the limit of processes")
def test_more_processes_than_allowed(shared: Installation) -> None:
    """A limit of processes that the user has reached already prevents the exec, and the error says so."""
    first = shared.start("--user", "54322", "sleep", "1000")
    done = shared.run("run", "--user", "54322", "--ulimit", "nproc=0", "true")
    assert (
        "worker: true: Resource temporarily unavailable: "
        "the user has as many processes as the ulimit nproc allows\n"
    ) == done.stderr.decode()
    assert 125 == done.returncode
    shared.worker("stop", first)


@pytest.mark.skipif(not can_become_unprivileged(), reason=NOT_ROOT)
def test_bounds_of_a_worker_without_root() -> None:
    """Without root a hard limit cannot be raised, and a pipe has the maximum of fs.pipe-max-size."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    with unprivileged_installation() as installation:
        done = installation.run("run", "--ulimit", f"nofile={hard + 1}", "true")
        assert (
            f"worker: ulimits.nofile: nofile={hard + 1}:{hard + 1}: "
            f"Operation not permitted: without CAP_SYS_RESOURCE it cannot exceed that of the worker, {hard}"
        ) in done.stderr.decode()
        assert 0 == installation.run("run", "--ulimit", f"nofile={hard}", "true").returncode
        done = installation.run("run", "--pipe-size", str(2 * most), "true")
        assert (
            f"worker: pipe size: {2 * most} bytes; "
            f"a worker without root can set {most} (fs.pipe-max-size)\n"
        ) == done.stderr.decode()
        assert (
            f"{most}\n".encode()
            == installation.run("run", "--pipe-size", str(most), sys.executable, "-c", PIPE_SIZE).stdout
        )
        _exhaust_the_share(installation, most)


def _exhaust_the_share(installation: Installation, most: int) -> None:
    """Start jobs until the pipes of the user have used up their share."""
    pages = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    needed = pages * resource.getpagesize() // (2 * most) + 1
    for _ in range(needed):
        done = installation.run("start", "--split-output", "--pipe-size", str(most), "sleep", "1000")
        if done.returncode:
            break
    assert (
        "worker: pipe size: Operation not permitted: "
        f"the pipes of the worker's user have used up fs.pipe-user-pages-soft, {pages} pages; "
        "request less, or wait until other jobs have ended\n"
    ) == done.stderr.decode()
    assert b"hi\n" == installation.run("run", "echo", "hi").stdout  # pipes of the default size go on


def test_the_size_of_the_pipe(shared: Installation) -> None:
    """A job writes as much as its pipe takes before it blocks; `query` shows what was requested."""
    job = shared.start("--pipe-size", "256K", sys.executable, "-c", PIPE_SIZE)
    assert b"262144\n" == shared.stream(job)
    assert 256 << 10 == shared.query(job)["pipe_size"]
    reader, writer = os.pipe()
    default = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.close(reader)
    os.close(writer)
    plain = shared.start(sys.executable, "-c", PIPE_SIZE)
    assert f"{default}\n".encode() == shared.stream(plain)
    split = ("--split-output", "--pipe-size", "5000")
    both = "import fcntl; print(fcntl.fcntl(1, fcntl.F_GETPIPE_SZ), fcntl.fcntl(2, fcntl.F_GETPIPE_SZ))"
    assert b"8192 8192\n" == shared.stream(shared.start(*split, sys.executable, "-c", both))
