"""stdout, stderr, signals, closed pipes and exit codes: the rows of docs/how-to/standard-streams.md."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.installation import Installation

BOTH = ("sh", "-c", "echo out; echo err >&2")


def begin(
    worker: Installation, *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> "subprocess.Popen[bytes]":
    """Start a command in the background."""
    return subprocess.Popen(
        [*worker.command, *arguments],
        env=worker.env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )


def printed(worker: Installation, *arguments: str) -> tuple[bytes, bytes]:
    """Return what a command prints on stdout and on stderr; it succeeds."""
    done = worker.run(*arguments)
    assert 0 == done.returncode, done.stderr
    return done.stdout, done.stderr


def finished(worker: Installation, *command: str) -> str:
    """Start a job with two channels; return its id when it has finished."""
    job = worker.start("--split-output", *command)
    worker.wait(job)
    return job


def running(worker: Installation) -> list[str]:
    """Return the jobs that have not finished."""
    return [job["id"] for job in json.loads(worker.worker("list", "--running", "-o", "json"))]


def test_run_keeps_stderr_separate(shared: Installation) -> None:
    """Stderr of the job is stderr of `run`; `2>/dev/null` drops it and nothing else."""
    assert (b"out\n", b"err\n") == printed(shared, "run", *BOTH)


def test_run_with_one_channel(shared: Installation) -> None:
    """With --no-split-output, `run` prints both on stdout, in the order of writing."""
    lines = "".join(f"{line}\n" for line in range(100)).encode()
    script = "for line in range(100): os.write(1 + line % 2, b'%d\\n' % line)"
    one = ("--no-split-output", sys.executable, "-c", f"import os\n{script}")
    assert (lines, b"") == printed(shared, "run", *one)


def test_start_keeps_one_channel(shared: Installation) -> None:
    """A job of `start` has one channel, which `stream` prints on stdout."""
    assert (b"out\nerr\n", b"") == printed(shared, "stream", shared.start(*BOTH))


def test_stream_of_two_channels(shared: Installation) -> None:
    """Each channel goes to its own descriptor, also while the job runs."""
    job = shared.start("--split-output", "sh", "-c", "echo out; echo err >&2; sleep 1000")
    stream = begin(shared, "stream", job)
    assert stream.stdout is not None
    assert stream.stderr is not None
    assert b"out\n" == stream.stdout.readline()
    assert b"err\n" == stream.stderr.readline()
    shared.worker("stop", job)
    assert (b"", b"") == stream.communicate(timeout=60)
    assert 0 == stream.returncode
    assert (b"out\n", b"err\n") == printed(shared, "stream", job)


def test_one_of_two_channels(shared: Installation) -> None:
    """--stdout and --stderr select a channel, which is printed on stdout."""
    job = finished(shared, *BOTH)
    assert (b"out\n", b"") == printed(shared, "stream", "--stdout", job)
    assert (b"err\n", b"") == printed(shared, "stream", "--stderr", job)


def test_a_tail_of_two_channels(shared: Installation) -> None:
    """A tail is one of each channel."""
    job = finished(shared, "sh", "-c", "seq 3; seq 11 13 >&2")
    assert (b"2\n3\n", b"12\n13\n") == printed(shared, "stream", "--tail", "2", job)
    assert (b"\n", b"\n") == printed(shared, "stream", "--tail-bytes", "1", job)
    assert (b"1\n2\n3\n", b"11\n12\n13\n") == printed(shared, "stream", "--tail", "all", job)


def test_an_offset_of_two_channels(shared: Installation) -> None:
    """An offset belongs to one channel: the error names the options that select it."""
    job = finished(shared, *BOTH)
    for offset in ("0", "1"):
        done = shared.run("stream", "--offset", offset, job)
        assert (2, b"") == (done.returncode, done.stdout)
        assert b"--offset needs --stdout or --stderr" in done.stderr
    assert (b"ut\n", b"") == printed(shared, "stream", "--offset", "1", "--stdout", job)
    assert (b"rr\n", b"") == printed(shared, "stream", "--offset", "1", "--stderr", job)
    one = shared.start(*BOTH)
    assert (b"ut\nerr\n", b"") == printed(shared, "stream", "--offset", "1", one)


def test_the_order_within_a_channel(shared: Installation) -> None:
    """Each channel arrives in the order of writing, however the writes alternate."""
    script = "import os\nfor line in range(20_000): os.write(1 + line % 2, b'%d\\n' % line)"
    out, err = printed(shared, "run", sys.executable, "-c", script)
    assert list(range(0, 20_000, 2)) == [int(line) for line in out.split()]
    assert list(range(1, 20_000, 2)) == [int(line) for line in err.split()]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_run(shared: Installation, number: int, status: int) -> None:
    """The first signal stops the job; the rest of both channels is printed."""
    script = "trap 'echo bye; echo end >&2; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    run = begin(shared, "run", "sh", "-c", script)
    assert run.stdout is not None
    assert b"ready\n" == run.stdout.readline()
    run.send_signal(number)
    assert (b"bye\n", b"end\n") == run.communicate(timeout=60)
    assert status == run.returncode
    assert [] == running(shared)


@pytest.mark.parametrize("script", ["echo err >&2; sleep 1000", "yes err >&2"])
def test_a_closed_pipe_of_stderr(shared: Installation, script: str) -> None:
    """As with stdout, the command ends at once; `run` stops its job, `stream` does not."""
    job = shared.start("--split-output", "--output-max", "all", "sh", "-c", script)
    for arguments in (["stream", job], ["run", "--output-max", "all", "sh", "-c", script]):
        command = begin(shared, *arguments, stdout=subprocess.DEVNULL)
        assert command.stderr is not None
        assert b"err\n" == command.stderr.readline()
        command.stderr.close()
        assert 141 == command.wait(timeout=60)
    assert [job] == running(shared)
    shared.worker("stop", job)


def test_one_pipe_for_both_channels(shared: Installation) -> None:
    """`2>&1 | head` ends the command when the pipe is closed."""
    run = begin(shared, "run", "sh", "-c", "echo err >&2; sleep 1000", stderr=subprocess.STDOUT)
    assert run.stdout is not None
    assert b"err\n" == run.stdout.readline()
    run.stdout.close()
    assert 141 == run.wait(timeout=60)
    assert [] == running(shared)


@pytest.mark.parametrize(("descriptor", "name"), [(1, "stdout"), (2, "stderr")])
def test_a_full_disk(shared: Installation, descriptor: int, name: str) -> None:
    """A failed write ends the command; `run` stops its job and exits with 125, `stream` with 1."""
    job = shared.start("--split-output", "sh", "-c", "echo out; echo err >&2; sleep 1000")
    script = "echo out; echo err >&2; sleep 1000"
    full = os.open("/dev/full", os.O_WRONLY)
    for arguments, status in ((["stream", job], 1), (["run", "sh", "-c", script], 125)):
        command = begin(
            shared,
            *arguments,
            stdout=full if descriptor == 1 else subprocess.PIPE,
            stderr=full if descriptor == 2 else subprocess.PIPE,
        )
        _, err = command.communicate(timeout=60)
        assert status == command.returncode
        if descriptor == 1:
            assert f"cannot write to {name}: No space left on device\n" in err.decode()
    os.close(full)
    assert [job] == running(shared)
    shared.worker("stop", job)


def test_the_rest_of_two_channels(installation: Installation) -> None:
    """A command that ends before the output names the commands that print the rest of each channel."""
    script = "echo out; echo error >&2; sleep 1000"
    job = installation.start("--split-output", "sh", "-c", script)
    commands = [
        begin(installation, "stream", "--reconnect", "0", job),
        begin(installation, "run", "--reconnect", "0", "sh", "-c", script),
    ]
    for command in commands:
        assert command.stdout is not None
        assert command.stderr is not None
        assert (b"out\n", b"error\n") == (command.stdout.readline(), command.stderr.readline())
    installation.kill(installation.server_pid())
    errors = [command.communicate(timeout=60)[1].decode() for command in commands]
    assert [1, 125] == [command.returncode for command in commands]
    rest = "worker stream ([0-9a-f-]{36}) --stdout --offset 4, and worker stream \\1 --stderr --offset 6\n$"
    resumed = re.search(f"; to resume from here: {rest}", errors[0])
    assert resumed is not None
    assert job == resumed[1]
    assert re.search(f"; the job keeps running: {rest}", errors[1])


def test_both_channels_continue_after_a_restart(installation: Installation, tmp_path: Path) -> None:
    """No byte of either channel is lost or repeated when the server is replaced."""
    gate = tmp_path / "gate"
    script = f"echo out; echo err >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo more; echo last >&2"
    run = begin(installation, "run", "sh", "-c", script)
    assert run.stdout is not None
    assert run.stderr is not None
    assert (b"out\n", b"err\n") == (run.stdout.readline(), run.stderr.readline())
    installation.kill(installation.server_pid())
    assert run.stderr.readline().endswith(b"; trying again for 60 s\n")
    installation.worker("up")
    assert b"worker: the server is back\n" == run.stderr.readline()
    gate.touch()
    assert (b"more\n", b"last\n") == run.communicate(timeout=60)
    assert 0 == run.returncode
