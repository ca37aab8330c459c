"""`run -i`, `start -i` and `attach -i` with real jobs: exact input, also when the server is killed."""

import hashlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

BYTES = random.Random(0).randbytes(20_000_000)
DIGEST = f"{hashlib.sha256(BYTES).hexdigest()}  -\n".encode()


def piped(installation: Any, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with these bytes in a pipe as its stdin."""
    return subprocess.run(
        [*installation.command, *arguments],
        env=installation.env,
        input=data,
        capture_output=True,
        check=False,
        timeout=120,
    )


@contextmanager
def typing_into(installation: Any, *arguments: str, stdin: int = PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a command; kill it at the end if it has not ended."""
    command = [*installation.command, *arguments]
    with subprocess.Popen(
        command, env=installation.env, stdin=stdin, stdout=PIPE, stderr=PIPE, bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_large_input(shared: Any) -> None:
    """Any bytes of any size reach the job, and their end."""
    done = piped(shared, BYTES, "run", "-i", "sha256sum")
    assert (0, DIGEST, b"") == (done.returncode, done.stdout, done.stderr)


def test_the_output_is_the_input(shared: Any) -> None:
    """A filter writes while it reads."""
    done = piped(shared, BYTES, "run", "-i", "cat")
    assert (0, b"") == (done.returncode, done.stderr)
    assert BYTES == done.stdout


def test_a_conversation(shared: Any) -> None:
    """Each line is answered before the next one is written."""
    with typing_into(shared, "run", "-i", "sh", "-c", "while read x; do echo got $x; done") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(20):
            process.stdin.write(f"{number}\n".encode())
            assert f"got {number}\n".encode() == process.stdout.readline()
        process.stdin.close()
        assert 0 == process.wait(60)


def test_a_job_that_stops_reading(shared: Any) -> None:
    """The command ends with the job, although its stdin has no end."""
    with subprocess.Popen(["yes"], stdout=PIPE) as endless:
        assert endless.stdout is not None
        with typing_into(shared, "run", "-i", "head", "-n", "1", stdin=endless.stdout.fileno()) as process:
            assert process.stdout is not None
            assert b"y\n" == process.stdout.read()
            assert 0 == process.wait(60)
        endless.kill()


def test_a_job_that_does_not_read(shared: Any) -> None:
    """The command waits, and a signal stops the job."""
    with typing_into(shared, "run", "-i", "sh", "-c", "echo begun; exec sleep 1000") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert b"begun\n" == process.stdout.readline()
        process.stdin.write(bytes(4096))
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(60)


def test_a_job_that_closes_its_stdin(shared: Any) -> None:
    """One line says so, and output and exit code are those of the job."""
    done = piped(shared, BYTES, "run", "-i", "sh", "-c", "exec <&-; sleep 1; echo out; exit 3")
    assert (3, b"out\n") == (done.returncode, done.stdout)
    assert b"worker: the job has closed its stdin\n" == done.stderr


def test_start_passes_a_file(shared: Any) -> None:
    """The job has all of it when the command ends, and outlives the command."""
    line = piped(shared, BYTES, "start", "-i", "sha256sum").stdout.decode()
    job = line.split()[1]
    assert f"Job {job} is started\n" == line
    assert DIGEST == shared.stream(job)
    assert shared.query(job)["stdin"]


def test_clients_attach_one_after_another(shared: Any) -> None:
    """`start -i` leaves stdin open; an interrupted `attach -i` too; the end of stdin ends the input."""
    job = shared.start("-i", "cat")
    with typing_into(shared, "attach", "-i", job) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        assert b"one\n" == process.stdout.readline()
        refused = piped(shared, b"x", "attach", "-i", job)
        assert 1 == refused.returncode
        assert b"another client writes to the stdin of job" in refused.stderr
        process.send_signal(signal.SIGINT)
        assert 130 == process.wait(60)
    assert "running" == shared.query(job)["state"]
    done = piped(shared, b"two\n", "attach", "-i", job)
    assert (0, b"two\n", b"") == (done.returncode, done.stdout, done.stderr)
    assert b"one\ntwo\n" == shared.stream(job)


def test_without_the_option_stdin_is_empty(shared: Any) -> None:
    """The job reads /dev/null, and a line on stderr says that input is waiting."""
    done = piped(shared, b"hi\n", "run", "cat")
    assert (0, b"") == (done.returncode, done.stdout)
    assert b"worker: stdin is not passed to the job; use -i to pass it, or < /dev/null\n" == done.stderr
    quiet = subprocess.run(
        [*shared.command, "run", "cat"], env=shared.env, stdin=DEVNULL, capture_output=True, check=False
    )
    assert (0, b"", b"") == (quiet.returncode, quiet.stdout, quiet.stderr)


@pytest.mark.parametrize("victim", ["server", "recorder"])
def test_a_process_is_killed_meanwhile(installation: Any, victim: str) -> None:
    """The client resumes, and the job reads each byte once."""
    with typing_into(installation, "run", "-i", "--no-split-output", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(BYTES[:1000])
        received = process.stdout.read(1000)
        installation.kill(getattr(installation, f"{victim}_pid")())
        if victim == "server":
            installation.worker("up")
        out, err = process.communicate(BYTES[1000:], timeout=120)
    assert 0 == process.returncode, err
    assert BYTES == received + out


def test_another_client_writes_while_the_first_one_is_away(installation: Any) -> None:
    """The first one ends with an error, although it had sent more bytes than the other one."""
    job = "read -r line; cat; echo $line"
    with typing_into(installation, "run", "-i", "sh", "-c", job) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"last\n1\n")
        assert b"1\n" == process.stdout.read(2)
        process.send_signal(signal.SIGSTOP)
        process.stdin.write(b"ours, which is never read\n")
        installation.kill(installation.server_pid())
        installation.worker("up")
        [found] = json.loads(installation.worker("list", "-o", "json"))
        done = piped(installation, b"2\n", "attach", "-i", found["id"])
        assert (0, b"2\nlast\n", b"") == (done.returncode, done.stdout, done.stderr)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=120)
    assert 125 == process.returncode
    assert f"another client has written to the stdin of job {found['id']} meanwhile".encode() in err
