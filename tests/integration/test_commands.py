"""Jobs of all kinds, through the real command line and the real server."""

import hashlib
import random
import string
import sys
from uuid import uuid4

import pytest

from worker import JobSpec
from worker.client.errors import RpcError

from ..support.processes import processes_with


@pytest.mark.parametrize("code", [0, 1, 255])
def test_exit_code(shared, code):
    """The exit code of a job is that of its command."""
    job = shared.start("sh", "-c", f"exit {code}")
    facts = shared.wait(job)
    assert code == facts["exit_code"]
    assert "exited" == facts["state"]
    assert f"Pid: {facts['pid']} Exit code: {code} Exited: true\n" == shared.worker("query", job)


def test_killed_by_a_signal(shared):
    """A job killed by a signal has the exit code 128 + signal, and the signal."""
    facts = shared.wait(shared.start("sh", "-c", "kill -KILL $$"))
    assert 137 == facts["exit_code"]
    assert 9 == facts["signal"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-command-anywhere", "No such file or directory"),
        ("/etc/passwd", "Permission denied: it is not executable (chmod +x)"),
        ("/etc", "Permission denied: it is a directory"),
        ("./relative", "No such file or directory"),
    ],
)
def test_command_that_cannot_be_run(shared, command, reason):
    """A command that cannot be executed is rejected with the kernel's error, and no job is created."""
    before = shared.worker("list", "-o", "json")
    done = shared.run("start", command)
    assert f"worker: {command}: {reason}\n" == done.stderr.decode()
    assert 1 == done.returncode
    assert before == shared.worker("list", "-o", "json")


def test_script_without_interpreter(shared, tmp_path):
    """An executable text file without #! is rejected, as by systemd and docker."""
    script = tmp_path / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    done = shared.run("start", str(script))
    assert "Exec format error" in done.stderr.decode()
    assert 1 == done.returncode


def test_empty_command(shared):
    """An empty command is rejected, and the error names the field."""
    done = shared.run("start", "")
    assert "command" in done.stderr.decode()
    assert done.returncode in {1, 2}


ARGUMENTS = [
    "two words",
    "",
    'quo"te',
    "quo'te",
    "line\nbreak",
    "tab\tand\r",
    "$HOME `id` $(id)",
    "žluťoučký 🐎",
    "-o",
    "--json",
    "--",
    "*",
    "\\",
]


def test_arguments_arrive_as_they_are(shared):
    """Arguments of a job are not changed by a shell, the option parser or an encoding."""
    program = "import sys; sys.stdout.buffer.write(chr(0).join(sys.argv[1:]).encode())"
    job = shared.start(sys.executable, "-c", program, *ARGUMENTS)
    assert "\0".join(ARGUMENTS).encode() == shared.stream(job)


def test_options_after_the_command_belong_to_the_job(shared):
    """Arguments after the command are not options of worker."""
    assert b"-o json --help\n" == shared.stream(shared.start("echo", "-o", "json", "--help"))


def test_a_megabyte_of_arguments(shared):
    """The arguments may have a megabyte in total."""
    arguments = ["x" * 100_000] * 10 + ["y" * 24_576]
    program = "import sys; print(len(sys.argv), sum(map(len, sys.argv[1:])))"
    job = shared.start(sys.executable, "-c", program, *arguments)
    assert b"12 1024576\n" == shared.stream(job)


async def test_an_argument_above_the_limit_of_the_kernel(shared):
    """One argument above 128 KiB (MAX_ARG_STRLEN) is rejected with the error of execve(2)."""
    async with shared.client() as client:
        with pytest.raises(RpcError, match="InvalidArgument desc = echo: Argument list too long"):
            await client.start(JobSpec("echo", ["x" * 140_000]), request_id="")


@pytest.mark.parametrize("size", [0, 1, 65519, 65520, 65521, 131040, 1_000_003])
def test_output_of_any_size(shared, size):
    """Exactly the written bytes arrive, whatever the size and the chunk boundaries."""
    job = shared.start("head", "-c", str(size), "/dev/zero")
    assert b"\0" * size == shared.stream(job)
    assert size == shared.wait(job)["output"]["output"]["end"]


def test_output_of_100_megabytes(shared, tmp_path):
    """100 MB of binary output arrive unchanged."""
    data = tmp_path / "data"
    data.write_bytes(random.Random(7).randbytes(100_000_000))
    job = shared.start("cat", str(data))
    digest = hashlib.sha256(shared.stream(job)).hexdigest()
    assert hashlib.sha256(data.read_bytes()).hexdigest() == digest


def test_characters_across_chunk_boundaries(shared, tmp_path):
    """Multi-byte characters survive chunk boundaries."""
    text = ("€" * 50_000 + "🐎" * 50_000 + "\n").encode()
    file = tmp_path / "text"
    file.write_bytes(text)
    assert text == shared.stream(shared.start("cat", str(file)))


def test_no_newline_at_the_end(shared):
    """Nothing is added to the output of a job."""
    assert b"no newline" == shared.stream(shared.start("printf", "no newline"))


def test_reopening_standard_error(shared):
    """`> /dev/stderr` neither fails nor truncates."""
    job = shared.start(
        "sh", "-c", "echo one; echo two > /dev/stderr; echo three >&2; echo four > /dev/stdout"
    )
    assert b"one\ntwo\nthree\nfour\n" == shared.stream(job)


def test_output_closed_by_the_job(shared):
    """A job that closes its output finishes when it exits; the output before that is kept."""
    job = shared.start("sh", "-c", "echo before; exec > /dev/null 2>&1; echo after")
    assert b"before\n" == shared.stream(job)
    assert 0 == shared.wait(job)["exit_code"]


def test_writing_after_a_pause(shared):
    """A stream continues after a pause as long as the job runs."""
    job = shared.start("sh", "-c", "echo first; sleep 1.5; echo second")
    assert b"first\nsecond\n" == shared.stream(job)


def test_leftovers_are_killed(shared, tmp_path):
    """Leftovers are killed, also after setsid, and their output is kept."""
    marker = str(uuid4())
    script = f"""
        trap '' TERM
        (setsid sh -c 'trap "" TERM; while :; do sleep 1; done' {marker} &)
        nohup sleep 1000 {marker} >/dev/null 2>&1 &
        echo left
    """
    job = shared.start("sh", "-c", script)
    facts = shared.wait(job)
    assert 0 == facts["exit_code"]
    assert b"left\n" == shared.stream(job)
    assert [] == processes_with(marker)


def test_leftovers_can_be_waited_for(shared):
    """With --leftovers=wait a job lasts until all of its processes have exited."""
    job = shared.start("--leftovers=wait", "sh", "-c", "(sleep 1; echo child) & echo main; exit 3")
    assert b"main\nchild\n" == shared.stream(job)
    assert 3 == shared.wait(job)["exit_code"]


def test_stop_ends_every_process(shared):
    """When stop returns, no process is left, despite double fork, setsid and SIGSTOP."""
    marker = str(uuid4())
    script = f"""
        trap '' TERM
        (setsid sh -c '(trap "" TERM; sleep 1000 {marker}) & sleep 1000 {marker}' &)
        sh -c 'kill -STOP $$; sleep 1000' {marker} &
        echo ready
        while :; do sleep 1; done
    """
    job = shared.start("--grace", "1s", "sh", "-c", script, marker)
    with_output = shared.worker("stream", "--no-follow", job)
    while "ready" not in with_output:
        with_output = shared.worker("stream", "--no-follow", job)
    assert f"Job {job} has been stopped\n" == shared.worker("stop", job)
    assert [] == processes_with(marker)
    facts = shared.query(job)
    assert "stopped" == facts["cause"]
    assert 137 == facts["exit_code"]


def test_stopping_a_finished_job(shared):
    """A finished job cannot be stopped; the message is that of the original design."""
    job = shared.start("true")
    shared.wait(job)
    done = shared.run("stop", job)
    assert (
        "rpc error: code = FailedPrecondition desc = the process is already finished\n"
        == done.stderr.decode()
    )
    assert 1 == done.returncode


UNKNOWN = str(uuid4())


def test_timeout(shared):
    """A job that exceeds its timeout is stopped, with the cause."""
    facts = shared.wait(shared.start("--timeout", "300ms", "sleep", "100"))
    assert "timed out" == facts["cause"]
    assert 143 == facts["exit_code"]


def test_split_output(shared):
    """With --split-output, stdout and stderr are stored separately."""
    job = shared.start("--split-output", "sh", "-c", "echo out; echo err >&2; echo more > /dev/stderr")
    assert b"out\n" == shared.stream(job)
    assert "err\nmore\n" == shared.worker("stream", "--stderr", job)


@pytest.mark.parametrize(
    ("name", "number"),
    [("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("poll", 29), ("SIGUSR1", 10), ("34", 34)],
)
def test_signals_by_the_names_of_kill(shared, name, number):
    """The first signal of a stop is any that kill(1) knows, by name or number."""
    program = (
        "import os, signal\n"
        f"signal.signal({number}, lambda number, _: os._exit(number))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    job = shared.start(sys.executable, "-c", program)
    while "ready" not in shared.worker("stream", "--no-follow", job):
        pass
    shared.worker("stop", "--signal", name, job)
    assert number == shared.query(job)["exit_code"]


def test_a_tail_of_everything(shared):
    """`--tail all` prints the output from its first byte, as with docker."""
    job = shared.start("seq", "1", "100")
    shared.wait(job)
    everything = "".join(f"{number}\n" for number in range(1, 101))
    assert everything == shared.worker("stream", "--tail", "all", job)
    done = shared.run("stream", "--tail", "some", job)
    assert b"--tail some: not a number of lines; write 100, or all" in done.stderr
    assert 2 == done.returncode


def test_stream_parts(shared):
    """A stream starts at an offset, or a number of lines or bytes before the end."""
    job = shared.start("seq", "1", "100")
    shared.wait(job)
    assert "99\n100\n" == shared.worker("stream", "--tail", "2", job)
    assert "00\n" == shared.worker("stream", "--tail-bytes", "3", job)
    assert "100\n" == shared.worker(
        "stream", "--offset", str(len("".join(f"{n}\n" for n in range(1, 100)))), job
    )


def test_run_returns_output_and_exit_code(shared):
    """`worker run` prints the output of the job and exits with its exit code."""
    done = shared.run("run", "sh", "-c", "echo out; exit 7")
    assert (7, b"out\n") == (done.returncode, done.stdout)
    assert 127 == shared.run("run", "no-such-command-anywhere").returncode
    assert 126 == shared.run("run", "/etc/passwd").returncode
    assert 143 == shared.run("run", "sh", "-c", "kill $$").returncode


def test_random_bytes_in_environment_and_labels(shared):
    """Environment and labels arrive unchanged."""
    value = "".join(random.Random(3).choices(string.printable, k=200)) + "ž🐎"
    job = shared.start("--env", f"A={value}", "--label", "team=a b", "printenv", "A")
    assert value.encode() + b"\n" == shared.stream(job)
    assert {"team": "a b"} == shared.query(job)["labels"]
