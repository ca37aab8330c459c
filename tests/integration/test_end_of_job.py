"""The end of a job through the real command: filters, traps, pools of processes, leftovers."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from ..support.processes import processes_with
from ..support.waiting import wait_until

TIMES = 20
"""How often a test is repeated whose subject is a race."""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="process substitution needs bash")

TRAP = """
exec > >(tee $0.log) 2>&1
trap 'echo cleaning; sleep 0.3; echo cleaned; exit 5' TERM
echo ready
touch $0
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
open(sys.argv[1], "w").close()
while True:
    signal.pause()
"""


def repeat(scenario):
    """Run a scenario many times, some at once, and return all results."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: scenario(), range(TIMES)))


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
        script = "exec > >(tee $0) 2>&1\nfor n in 1 2 3; do echo line $n; done\nexit 4"
        done = shared.run("run", "bash", "-c", script, str(tmp_path / str(uuid4())))
        return done.returncode, done.stdout

    assert [(4, b"line 1\nline 2\nline 3\n")] * TIMES == repeat(scenario)


def start_ready(worker, directory, *command):
    """Start a job that creates the file that is its last argument; return its id and that argument."""
    ready = directory / str(uuid4())
    job = worker.start(*command, str(ready))
    wait_until(ready.exists)
    return job, str(ready)


def stop_and_check(worker, job, marker):
    """Stop a job; return its exit code and output. No process with the marker is left."""
    worker.worker("stop", job)
    assert [] == processes_with(marker)
    return worker.query(job)["exit_code"], worker.stream(job)


@needs_bash
def test_a_stopped_script_cleans_up(shared, tmp_path):
    """The trap runs while the log still works; exit code and output are those of the script."""

    def scenario():
        return stop_and_check(shared, *start_ready(shared, tmp_path, "bash", "-c", TRAP))

    assert [(5, b"ready\ncleaning\ncleaned\n")] * TIMES == repeat(scenario)


def test_a_stopped_pool_is_drained(shared, tmp_path):
    """A main process can finish the work of its children, which get no signal before it has ended."""

    def scenario():
        return stop_and_check(shared, *start_ready(shared, tmp_path, sys.executable, "-c", POOL))

    assert [(0, b"ready\n40 tasks done\n")] * TIMES == repeat(scenario)


@needs_bash
def test_signal_all_signals_the_log_too(shared, tmp_path):
    """With --signal-all the log ends with the script, as under systemd, and the script gets SIGPIPE."""
    for options, stop in ((["--signal-all"], []), ([], ["--signal-all"])):
        job, _ = start_ready(shared, tmp_path, *options, "bash", "-c", TRAP)
        shared.worker("stop", *stop, job)
        assert b"cleaned\n" not in shared.stream(job)
        assert bool(options) == shared.query(job)["signal_all"]


def test_the_server_can_signal_all_by_default(install, tmp_path):
    """The setting applies to every job, and is shown."""
    worker = install(tmp_path / "home")
    worker.worker("up", "--signal-all", "yes")
    assert worker.query(worker.start("sleep", "0"))["signal_all"]


def test_a_child_of_a_main_process_that_ignores_the_signal(shared, tmp_path):
    """The worker does not wait for the main process: its children get the signal at once, and end first."""
    child = "env --default-signal=TERM sh -c 'touch $0; exec sleep 1000' $0"
    script = f"trap '' TERM; {child}; echo child ended; exit 3"
    job, _ = start_ready(shared, tmp_path, "--grace", "1h", "sh", "-c", script)
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


def test_a_stopped_process_is_continued(shared, tmp_path):
    """SIGTERM reaches a main process and a child that are stopped (SIGSTOP)."""
    script = "touch $0; sh -c 'kill -STOP $$' & kill -STOP $$"
    job, _ = start_ready(shared, tmp_path, "--grace", "1h", "sh", "-c", script)
    shared.worker("stop", job)
    assert 143 == shared.query(job)["exit_code"]
