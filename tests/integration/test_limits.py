"""Enforced limits, as seen from outside and by the job itself."""

import json
import os
import re
import sys
from datetime import datetime
from pathlib import Path

import pytest

from worker.cgroups.hierarchy.detection import detect
from worker.cgroups.plugins import default_parent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: control groups are created")

HIERARCHY = detect(os.getpid())

SPIN = "import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"

ALLOCATE = "import sys; block = b'x' * (int(sys.argv[1]) << 20); print(len(block))"

FORK_BOMB = """
import os, time
children = refused = 0
for _ in range(200):
    try:
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    except OSError:
        refused += 1
    else:
        children += 1
print(children, refused, flush=True)
time.sleep(1000)
"""

DIRECT_IO = """
import mmap, os, sys, time
path, size, write = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "write"
flags = os.O_DIRECT | (os.O_WRONLY | os.O_CREAT if write else os.O_RDONLY)
fd, block = os.open(path, flags), mmap.mmap(-1, 1 << 20)
begin = time.monotonic()
for offset in range(0, size, 1 << 20):
    (os.pwritev if write else os.preadv)(fd, [block], offset)
print(time.monotonic() - begin)
"""


def python(program, *arguments):
    """Return the command that runs a Python program."""
    return [sys.executable, "-c", program, *map(str, arguments)]


def groups_of(job):
    """Return a pattern for the cgroups of a job in /proc/self/cgroup."""
    return re.compile(rf"^\d+:([^:]*):(/.*)?/{job}$", re.MULTILINE)


@pytest.mark.parametrize("limit", [["--memory", "1G"], []])
def test_a_job_starts_in_its_own_cgroups(shared, limit):
    """The first instruction runs in them, in every hierarchy, with or without limits."""
    job = shared.start(*limit, "cat", "/proc/self/cgroup")
    inside = {
        controller
        for names, _ in groups_of(job).findall(shared.stream(job).decode())
        for controller in names.split(",")
    }
    home = HIERARCHY.root("memory")
    assert home is not None
    assert ("memory" if home.base != HIERARCHY.unified else "") in inside
    assert HIERARCHY.unified is None or "" in inside


def test_a_fifth_of_a_core(shared):
    """A busy job gets at most a fifth of a core, as measured by its own cgroup, and is throttled."""
    facts = shared.wait(shared.start("--cpu", "0.2", *python(SPIN.format(seconds=4))))
    begin, end = (datetime.fromisoformat(facts[key]) for key in ("started_at", "ended_at"))
    share = facts["usage"]["cpu_usec"] / 1e6 / (end - begin).total_seconds()
    assert 0 < share < 0.2 * 1.15  # less on a busy machine
    assert facts["usage"]["throttled_usec"] > 0


def test_more_memory_than_allowed(shared):
    """The kernel kills the job; exit code, signal, cause and count show it, and the peak is the limit."""
    job = shared.start("--memory", "50M", "--swap", "0", *python(ALLOCATE, 200))
    facts = shared.wait(job)
    shown = (facts["exit_code"], facts["signal"], facts["cause"], facts["oom_kills"])
    assert (137, 9, "OOM killed", 1) == shown
    assert 0.9 < facts["usage"]["memory_peak"] / (50 << 20) <= 1
    wide = shared.worker("query", "-o", "wide", job)
    assert "State:     exited, exit code 137, signal 9, OOM killed\n" in wide
    assert "Limits:    memory 50M, swap 0\n" in wide
    assert "OOM kills: 1\n" in wide


def test_less_memory_than_allowed(shared):
    """A job that stays below its limit is not affected."""
    facts = shared.wait(shared.start("--memory", "200M", *python(ALLOCATE, 50)))
    assert (0, None, 0) == (facts["exit_code"], facts["cause"], facts["oom_kills"])
    assert 50 << 20 < facts["usage"]["memory_peak"] < 200 << 20


def test_run_reports_the_oom_kill(shared):
    """`run` prints a note that the job was OOM killed."""
    done = shared.run("run", "--memory", "50M", "--swap", "0", *python(ALLOCATE, 200))
    assert 137 == done.returncode
    assert re.fullmatch(r"worker: Job [0-9a-f-]{36} was OOM killed\n", done.stderr.decode())


def test_a_fork_bomb(shared, until):
    """It cannot exceed its limit by creating sessions, and stop ends all of its processes."""
    job = shared.start("--pids", "20", *python(FORK_BOMB))
    until(lambda: shared.query(job)["output"]["output"]["end"] > 0)
    assert 20 == shared.query(job)["usage"]["pids_current"]
    shared.worker("stop", "--grace", "0", job)
    assert b"19 181\n" == shared.stream(job)
    assert [] == [path for path in shared.cgroups() if path.name == job]


def test_an_update_while_the_job_runs(shared, until):
    """The new limit applies at once, in the kernel and in the status; the others do not change."""
    job = shared.start("--pids", "20", "--memory", "500M", "sleep", "1000")
    assert f"Job {job} has been updated\n" == shared.worker("update", "--memory", "100M", job)
    assert {"id": job, "updated": True} == json.loads(
        shared.worker("update", "-o", "json", "--memory", "200M", "--cpu", "50%", job)
    )
    limits = shared.query(job)["limits"]
    assert (20, 200 << 20, 0.5) == (limits["pids"], limits["memory"]["max"], limits["cpu"]["quota"])
    home = HIERARCHY.root("memory")
    group = next(path for path in shared.cgroups() if path.name == job and path.is_relative_to(home.base))
    file = "memory.max" if home.version == 2 else "memory.limit_in_bytes"
    assert 200 << 20 == int((group / file).read_text())
    shared.worker("stop", job)
    done = shared.run("update", "--memory", "1G", job)
    finished = (
        f"worker: The process of job {job} is already finished; `worker query {job}` prints how it ended\n"
    )
    assert (1, finished) == (
        done.returncode,
        done.stderr.decode(),
    )
    assert limits == shared.query(job)["limits"]


def test_a_rejected_update_changes_nothing(shared):
    """If one limit is rejected, none is changed."""
    job = shared.start("--pids", "20", "--memory", "500M", "sleep", "1000")
    before = shared.query(job)["limits"]
    done = shared.run("update", "--pids", "30", "--cpus", "4000", job)
    assert done.stderr.startswith(b"worker: --cpus: there is no CPU 4000")
    assert before == shared.query(job)["limits"]
    shared.worker("stop", job)


@pytest.mark.parametrize("operation", ["write", "read"])
def test_four_megabytes_per_second(shared, tmp_path, operation):
    """Direct I/O is not faster than its limit, and its bytes are counted."""
    if os.major(tmp_path.stat().st_dev) == 0:
        pytest.skip("the temporary directory is on no block device")
    file, size = tmp_path / "file", 12 << 20
    file.write_bytes(bytes(size))
    os.sync()
    job = shared.start(f"--io-{operation}", f"{tmp_path}=4M", *python(DIRECT_IO, file, size, operation))
    facts = shared.wait(job)
    assert 0 == facts["exit_code"], shared.stream(job)
    rate = size / float(shared.stream(job))
    # Not faster; slower if other processes use the disk.
    assert 0.1 * (4 << 20) < rate < 1.2 * (4 << 20)
    assert size <= facts["usage"][f"io_{operation}_bytes"] < size + (4 << 20)
    assert facts["usage"][f"io_{operation}_operations"] > 0


def test_only_on_some_cpus(shared):
    """The affinity of the job has exactly the CPUs that it may use."""
    (cpu, *_) = sorted(os.sched_getaffinity(0))
    program = "import os; print(sorted(os.sched_getaffinity(0)))"
    job = shared.start("--cpus", str(cpu), *python(program))
    assert f"[{cpu}]\n".encode() == shared.stream(job)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (["--io-write", "/proc=4M"], "/proc"),
        (["--io-write", "/dev/null=4M"], "/dev/null"),
        (["--io-write", "/nonexistent=4M"], "/nonexistent"),
        (["--cpus", "4000"], "there is no CPU 4000"),
        (["--cpus", "x"], "'x'"),
    ],
)
def test_limits_on_missing_devices_and_cpus_are_rejected(shared, option, reason):
    """The error names the device or CPU, and no job is created."""
    before = shared.worker("list", "-o", "json")
    done = shared.run("start", "-o", "json", *option, "true")
    assert 1 == done.returncode
    error = json.loads(done.stderr)["error"]
    assert "INVALID_ARGUMENT" == error["code"]
    assert error["message"].startswith("--")
    assert reason in error["message"]
    assert before == shared.worker("list", "-o", "json")


def test_a_limit_that_the_host_cannot_enforce_is_rejected(shared):
    """Start rejects it with the reason and remedy that the doctor reports; it is never dropped."""
    findings = json.loads(shared.worker("doctor", "-o", "json", code=None))["findings"]
    (high,) = [each for each in findings if each["subject"] == "limit --memory-high"]
    done = shared.run("start", "--memory-high", "50M", "true")
    if high["verdict"] == "ok":
        assert 0 == done.returncode
    else:
        refusal = f"--memory-high: {high['text']}; {high['remedy']}"
        assert f"worker: {refusal}\n" == done.stderr.decode()


def swap_limits(installation, job):
    """Return the bytes of swap that a job may use besides its memory, as the kernel has it."""
    found = []
    for cgroup in (path for path in installation.cgroups() if path.name == job):
        both, memory = cgroup / "memory.memsw.limit_in_bytes", cgroup / "memory.limit_in_bytes"
        if both.exists():
            found.append(str(int(both.read_text()) - int(memory.read_text())))
        elif (swap := cgroup / "memory.swap.max").exists():
            found.append(swap.read_text().strip())
    return found


def test_limits_for_all_jobs(installation):
    """A job without limits gets the server's default and no swap; one above the maximum is rejected."""
    installation.worker("down")
    config = installation.home / "worker.toml"
    config.write_text("[limits.default]\npids = 30\n\n[limits.maximum]\nmemory = '100M'\n")
    installation.worker("up", "--config", str(config), "--max-pids", "40")
    facts = installation.wait(installation.start(*python(ALLOCATE, 200)))
    assert (30, 100 << 20) == (facts["limits"]["pids"], facts["limits"]["memory"]["max"])
    assert "OOM killed" == facts["cause"]
    running = installation.start("sleep", "1000")
    assert ["0"] == swap_limits(installation, running)
    installation.worker("stop", running)
    for option, reason in [
        (["--memory", "101M"], "--memory: 101M is above this server's maximum of 100M"),
        (["--pids", "41"], "--pids: 41 is above this server's maximum of 40"),
    ]:
        done = installation.run("start", *option, "true")
        assert f"worker: {reason}\n" == done.stderr.decode()


@pytest.mark.skipif(not Path("/sys/fs/cgroup/unified").is_dir(), reason="only a hybrid host has both")
def test_a_job_that_leaves_its_v2_cgroup(shared):
    """A process that leaves the v2 cgroup, as a PAM session does, is still found by its v1 cgroups."""
    escape = "echo $$ > /sys/fs/cgroup/unified/cgroup.procs; echo out; exec sleep 1000"
    job = shared.start("--grace", "1s", "sh", "-c", escape)
    while "out" not in shared.worker("stream", "--no-follow", job):
        pass
    shared.worker("stop", job)
    assert "exited" == shared.query(job)["state"]
    child = "(echo 0 > /sys/fs/cgroup/unified/cgroup.procs; exec setsid sleep 1000) & sleep 0.3"
    facts = shared.wait(shared.start("sh", "-c", child))
    assert 0 == facts["exit_code"]
    assert [] == shared.cgroups()


def test_a_frozen_cgroup(shared):
    """Stop ends a job whose cgroup is frozen."""
    ignoring = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    job = shared.start("--grace", "200ms", "sh", "-c", ignoring)
    while "ready" not in shared.worker("stream", "--no-follow", job):
        pass
    groups = [path / "cgroup.freeze" for path in shared.cgroups() if path.name == job]
    [freeze] = [path for path in groups if path.exists()]
    freeze.write_text("1")
    shared.worker("stop", job)
    facts = shared.query(job)
    assert ("exited", 137) == (facts["state"], facts["exit_code"])


def test_an_oom_kill_while_no_server_ran(installation, tmp_path, until):
    """The next server reports the OOM kill and the usage of the job."""
    gate = tmp_path / "gate"
    eat = f"while [ ! -e {gate} ]; do sleep 0.05; done; exec {sys.executable} -c 'b\"x\" * (256 << 20)'"
    job = installation.start("--memory", "32M", "sh", "-c", eat)
    installation.kill(installation.server_pid())
    gate.touch()
    history = installation.home / "jobs" / job / "history"
    until(lambda: '"end"' in history.read_text())
    installation.worker("up")
    facts = installation.wait(job)
    assert ("OOM killed", 137, 9) == (facts["cause"], facts["exit_code"], facts["signal"])
    assert 1 <= facts["oom_kills"]
    assert 16 << 20 <= facts["usage"]["memory_peak"] <= 32 << 20
    assert 0 < facts["usage"]["cpu_usec"]


def test_running_jobs_keep_their_cgroups_when_the_settings_change(installation):
    """A new parent cgroup applies to new jobs; running jobs keep theirs, and their limits."""
    old = installation.start("--pids", "20", "sleep", "1000")
    groups = [path for path in installation.cgroups() if path.name == old]
    installation.worker("down")
    config, name = installation.home / "worker.toml", f"{default_parent(installation.home)}-other"
    config.write_text(f"[limiter]\nname = 'cgroups'\nparent = '{name}'\n")
    installation.worker("up", "--config", str(config))
    new = installation.start("sleep", "1000")
    assert name == parent_of(new)
    assert parent_of(old) == default_parent(installation.home)
    installation.worker("update", "--pids", "30", old)
    limits = [path / "pids.max" for path in groups if (path / "pids.max").exists()]
    assert ["30"] == [limit.read_text().strip() for limit in limits]
    installation.worker("down", "--jobs")
    assert [] == installation.cgroups()
    assert [] == list(Path("/sys/fs/cgroup").glob(f"*/{name}"))


def parent_of(job):
    """Return the name of the parent of a job's cgroup."""
    # os.walk ignores cgroups that disappear meanwhile; Path.glob does not.
    return next(Path(place).name for place, names, _ in os.walk("/sys/fs/cgroup") if job in names)
