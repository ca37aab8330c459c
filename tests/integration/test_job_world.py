"""The execution environment of a job is fixed, whatever that of the server is."""

import json
import os
import resource
import subprocess
import sys

import pytest

PROBE = """
import json, os, resource, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "fds": {fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
            if os.path.exists("/proc/self/fd/" + fd)},
    "ignored": int(status["SigIgn"], 16), "blocked": int(status["SigBlk"], 16),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "environ": dict(os.environ), "cwd": os.getcwd(), "umask": status["Umask"].strip(),
    "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
    "session": os.getsid(0), "group": os.getpgid(0), "pid": os.getpid(),
    "oom_score_adj": open("/proc/self/oom_score_adj").read().strip(),
    "cgroups": open("/proc/self/cgroup").read().splitlines(),
}))
"""
SIGPIPE_AND_SIGXFSZ = (1 << 12) | (1 << 24)


def probe(installation, *options):
    """Return what a job reports about itself."""
    job = installation.start(*options, sys.executable, "-c", PROBE)
    output = installation.stream(job)
    return job, json.loads(output)


@pytest.fixture(scope="module")
def world(shared):
    """A job without any option."""
    return probe(shared)


def test_descriptors(world):
    """A job has descriptors 0, 1 and 2, and none of the worker's."""
    job, seen = world
    assert {"0", "1", "2"} == set(seen["fds"])
    assert "/dev/null" == seen["fds"]["0"]
    assert seen["fds"]["1"].endswith(f"/jobs/{job}/output.fifo")
    assert seen["fds"]["2"] == seen["fds"]["1"]


def test_signals(world):
    """No signal is blocked or ignored except those that the Python of the probe ignores itself."""
    _, seen = world
    assert 0 == seen["blocked"]
    assert SIGPIPE_AND_SIGXFSZ == seen["ignored"]


def test_signals_before_python(shared):
    """A program that changes nothing ignores no signal."""
    output = shared.stream(shared.start("cat", "/proc/self/status")).decode()
    masks = dict(line.split(":\t") for line in output.splitlines() if line.startswith("Sig"))
    assert {"0000000000000000"} == {masks[name] for name in ("SigIgn", "SigBlk", "SigCgt", "SigPnd")}


def test_limits(world):
    """The soft limit of descriptors is 1024, as for a systemd service; no core files."""
    _, seen = world
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert [1024, hard] == seen["nofile"]
    assert 0 == seen["core"]
    assert "0" == seen["oom_score_adj"]


def test_environment(world):
    """The environment is built from the job spec, never inherited."""
    job, seen = world
    expected = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": os.path.expanduser("~"),
        "USER": "root" if os.geteuid() == 0 else seen["environ"]["USER"],
        "LOGNAME": seen["environ"]["USER"],
        "LANG": "C.UTF-8",
        "WORKER_JOB_ID": job,
    }
    assert expected == {name: value for name, value in seen["environ"].items() if name != "LC_CTYPE"}
    assert "/" == seen["cwd"]
    assert "0022" == seen["umask"]


def test_session(world):
    """A job leads a session of its own."""
    _, seen = world
    assert seen["pid"] == seen["session"] == seen["group"]


def test_cgroups(world, shared):
    """A job is in its cgroups from its first instruction on: the first output already shows them."""
    job, seen = world
    own = [line for line in seen["cgroups"] if line.endswith(f"/{job}")]
    controllers = {name for line in own for name in line.split(":")[1].split(",")}
    if os.geteuid() == 0:
        assert "memory" in controllers or {""} == controllers
    assert (
        [] == [path for path in shared.cgroups() if path.name == job]
        or shared.query(job)["state"] != "exited"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")
def test_another_user(shared):
    """--user sets the ids, groups and home of the user, and keeps none of root's."""
    job = shared.start("--user", "nobody", "sh", "-c", 'id -u; id -g; id -G; echo "$HOME $USER $LOGNAME"')
    assert b"65534\n65534\n65534\n/nonexistent nobody nobody\n" == shared.stream(job)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")
def test_another_user_can_reopen_its_output(shared):
    """`> /dev/stderr` works for any user."""
    job = shared.start(
        "--user", "nobody", "sh", "-c", "echo one; echo two > /dev/stderr; echo three > /dev/stdout"
    )
    assert b"one\ntwo\nthree\n" == shared.stream(job)


def test_working_directory_and_variables(shared, tmp_path):
    """--cwd and --env apply, and the command is looked up in a PATH given by --env."""
    tool = tmp_path / "a-tool-of-this-test"
    tool.write_text('#!/bin/sh\npwd\necho "$X"\n')
    tool.chmod(0o755)
    path = f"PATH={tmp_path}:/usr/bin:/bin"
    job = shared.start("--cwd", "/usr", "--env", "X=a=b", "--env", path, tool.name)
    assert b"/usr\na=b\n" == shared.stream(job)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cwd", "/nowhere/at/all"), "working directory: /nowhere/at/all: No such file or directory"),
        (("--cwd", "relative"), "is not an absolute path"),
        (("--user", "no-such-user-here"), "no user 'no-such-user-here'"),
    ],
)
def test_invalid_environment(shared, options, words):
    """The error names the directory or user that does not exist."""
    done = shared.run("start", *options, "true")
    assert 1 == done.returncode
    assert f"worker: {words}" in done.stderr.decode() or words in done.stderr.decode()


def test_signals_ignored_by_the_parent_of_the_server(installation):
    """A job ignores no signal that the server inherited as ignored, not even those reserved by libc."""
    installation.worker("down")
    ignoring = "trap '' HUP INT TERM USR1 PIPE; exec \"$@\""
    done = subprocess.run(
        [
            "sh",
            "-c",
            ignoring,
            "sh",
            sys.executable,
            "-c",
            IGNORE_RESERVED,
            sys.executable,
            "-m",
            "worker.cli.main",
            "up",
        ],
        env=installation.env,
        check=False,
        capture_output=True,
    )
    assert 0 == done.returncode, done.stderr
    output = installation.stream(installation.start("cat", "/proc/self/status")).decode()
    assert "SigIgn:\t0000000000000000\n" in output


IGNORE_RESERVED = """
import ctypes, os, struct, sys
number = 13 if os.uname().machine == "x86_64" else 134
for signal in (32, 33):
    assert ctypes.CDLL(None).syscall(number, signal, struct.pack("4Q", 1, 0, 0, 0), None, 8) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_the_locale_of_the_worker(install, tmp_path):
    """Arguments and environment are UTF-8, whatever the locale of the worker is."""
    worker = install(tmp_path / "home")
    worker.env |= {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    worker.worker("up")
    worker.env |= {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
    done = worker.run("run", "--env", "NAME=grün €", "sh", "-c", 'echo "$0 $NAME"', "wörld €")
    assert (0, "wörld € grün €\n".encode()) == (done.returncode, done.stdout)
