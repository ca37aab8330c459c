"""The end of a job through the real command: filters, traps, pools of processes, leftovers."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from ..support.processes import processes_with

TIMES = 20
"""How often a test is repeated whose subject is a race."""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="process substitution needs bash")

TRAP = """
exec > >(tee {log}) 2>&1
trap 'echo cleaning; sleep 0.3; echo cleaned; exit 5' TERM
echo ready
while :; do sleep 0.02; done
"""

POOL = """
import os, signal, sys
workers = []
result_read, result_write = os.pipe()
for _ in range(4):
    task_read, task_write = os.pipe()
    if os.fork() == 0:
        os.close(task_write)
        for other in workers:
            os.close(other)
        for name in os.fdopen(task_read):
            os.write(result_write, b".")
        os._exit(0)
    os.close(task_read)
    workers.append(task_write)
os.close(result_write)
def drain(*_):
    for worker in workers:
        os.write(worker, b"task\\n" * 10)
        os.close(worker)
    print(len(os.fdopen(result_read, "rb").read()), "tasks done", flush=True)
    for _ in workers:
        os.wait()
    sys.exit(0)
signal.signal(signal.SIGTERM, drain)
print("ready", flush=True)
while True:
    signal.pause()
"""


def repeat(scenario):
    """Run a scenario many times, some at once, and return all results."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: scenario(), range(TIMES)))


def await_output(worker, job, text):
    """Return when a job has written this text."""
    while text not in worker.worker("stream", "--no-follow", job):
        pass


@needs_bash
def test_a_filter_delivers_its_last_lines(shared):
    """A filter that outlives the main process has time to write what it has read."""
    command = ["bash", "-c", 'echo only line > >(sed "s/^/[job] /")']
    outputs = repeat(lambda: shared.run("run", *command))
    assert [(0, b"[job] only line\n")] * TIMES == [(done.returncode, done.stdout) for done in outputs]


@needs_bash
def test_a_script_with_a_log_delivers_its_last_lines(shared, tmp_path):
    """The common first line of a script that writes a log loses nothing."""

    def scenario():
        script = (
            f"exec > >(tee {tmp_path / str(uuid4())}) 2>&1\nfor n in 1 2 3; do echo line $n; done\nexit 4"
        )
        done = shared.run("run", "bash", "-c", script)
        return done.returncode, done.stdout

    assert [(4, b"line 1\nline 2\nline 3\n")] * TIMES == repeat(scenario)


@needs_bash
def test_a_stopped_script_cleans_up(shared, tmp_path):
    """The trap runs while the log still works; exit code and output are those of the script."""

    def scenario():
        marker = str(uuid4())
        job = shared.start("bash", "-c", TRAP.format(log=tmp_path / marker), marker)
        await_output(shared, job, "ready")
        shared.worker("stop", job)
        assert [] == processes_with(marker)
        return shared.query(job)["exit_code"], shared.stream(job)

    assert [(5, b"ready\ncleaning\ncleaned\n")] * TIMES == repeat(scenario)


def test_a_stopped_pool_is_drained(shared):
    """A main process can finish the work of its children, which get no signal before it has ended."""

    def scenario():
        marker = str(uuid4())
        job = shared.start(sys.executable, "-c", POOL, marker)
        await_output(shared, job, "ready")
        shared.worker("stop", job)
        assert [] == processes_with(marker)
        return shared.query(job)["exit_code"], shared.stream(job)

    assert [(0, b"ready\n40 tasks done\n")] * TIMES == repeat(scenario)


@needs_bash
def test_signal_all_signals_the_log_too(shared, tmp_path):
    """With --signal-all the log ends with the script, as under systemd, and the script gets SIGPIPE."""
    for options, stop in ((["--signal-all"], []), ([], ["--signal-all"])):
        job = shared.start(*options, "bash", "-c", TRAP.format(log=tmp_path / "log"))
        await_output(shared, job, "ready")
        shared.worker("stop", *stop, job)
        assert b"cleaned\n" not in shared.stream(job)
        assert bool(options) == shared.query(job)["signal_all"]


def test_the_server_can_signal_all_by_default(install, tmp_path):
    """The setting applies to every job, and is shown."""
    worker = install(tmp_path / "home")
    worker.worker("up", "--signal-all", "yes")
    assert worker.query(worker.start("sleep", "0"))["signal_all"]


def test_a_child_of_a_main_process_that_ignores_the_signal(shared):
    """Nobody waits for the main process: its children get the signal at once, and it ends after them."""
    child = "env --default-signal=TERM sh -c 'echo ready; exec sleep 1000'"
    job = shared.start("--grace", "1h", "sh", "-c", f"trap '' TERM; {child}; echo child ended; exit 3")
    await_output(shared, job, "ready")
    shared.worker("stop", job)
    assert 3 == shared.query(job)["exit_code"]
    assert shared.stream(job).endswith(b"child ended\n")


@pytest.mark.parametrize("linger", ["0", "1h"])
def test_linger(shared, tmp_path, linger):
    """Leftovers get SIGTERM after this time; with 0 at once."""
    gate = tmp_path / "gate"
    leftover = f"trap 'echo signalled; exit' TERM; touch {gate}; while :; do sleep 0.02; done"
    script = f"({leftover}) & while [ ! -e {gate} ]; do sleep 0.02; done; exit 7"
    job = shared.start("--linger", linger, "sh", "-c", script)
    if linger != "0":
        while not shared.query(job)["exited"]:
            pass
        facts = shared.query(job)
        assert ("stopping", 7, 3600.0) == tuple(facts[each] for each in ("state", "exit_code", "linger"))
        shared.worker("stop", job)
    assert shared.stream(job).endswith(b"signalled\n")
    assert 7 == shared.wait(job)["exit_code"]


def test_a_stopped_process_is_continued(shared):
    """SIGTERM reaches a main process and a child that are stopped (SIGSTOP)."""
    script = "echo ready; sh -c 'kill -STOP $$' & kill -STOP $$"
    job = shared.start("--grace", "1h", "sh", "-c", script)
    await_output(shared, job, "ready")
    shared.worker("stop", job)
    assert 143 == shared.query(job)["exit_code"]
