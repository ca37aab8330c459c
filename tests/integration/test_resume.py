"""Commands and clients continue across a server that is killed, stopped and started again."""

import asyncio
import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker import JobSpec
from worker.client.client import Client
from worker.client.job import Job
from worker.core.model.ending import Exited

from ..support.followed import WRITER

RESTARTS = 6


def begin(installation, *arguments, **redirected):
    """Start a command in the background."""
    return subprocess.Popen(
        [*installation.command, *arguments],
        env=installation.env,
        stdin=subprocess.DEVNULL,
        stdout=redirected.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **redirected,
    )


@pytest.fixture
def writer(tmp_path):
    """The command of a job that writes until a gate opens, the path of the gate, and that of the hash."""
    gate, digest = tmp_path / "gate", tmp_path / "digest"
    return [sys.executable, "-c", f"{WRITER}sys.exit(7)", str(gate), str(digest)], gate, digest


def restart(installation, number):
    """Kill or stop the server, and start another one, at another port each time."""
    if number % 3 == 2:
        installation.worker("down")
    else:
        installation.kill(installation.server_pid())
    installation.worker("up")


async def test_restarts_are_invisible(installation, tmp_path, until, writer):
    """Stream, run and wait, as commands and in a program, end as if the server had not been restarted."""
    command, gate, digest = writer
    output = tmp_path / "run.out"
    with output.open("wb") as file:
        run = begin(installation, "run", "--label", "by=run", *command, stdout=file)
    until(lambda: output.exists() and output.stat().st_size > 0)
    job = installation.worker("list").splitlines()[1].split()[0]
    streamed = tmp_path / "stream.out"
    with streamed.open("wb") as file:
        stream = begin(installation, "stream", job, stdout=file)
    wait = begin(installation, "wait", job)
    until(lambda: connections(installation) == 3)
    until(lambda: streamed.stat().st_size > 0)

    reports = []
    async with Client(
        installation.connection,
        on_lost=lambda _: reports.append("lost"),
        on_back=lambda: reports.append("back"),
    ) as client:
        assert await client.health()
        streams = [asyncio.create_task(hashed(client, job)) for _ in range(5)]
        waiting = asyncio.create_task(Job(client, job).wait())
        for number in range(RESTARTS):
            await asyncio.to_thread(restart, installation, number)
            size = streamed.stat().st_size
            await asyncio.to_thread(until, lambda size=size: streamed.stat().st_size > size)
            await asyncio.to_thread(until, lambda number=number: len(reports) == 2 * number + 2)
        gate.touch()
        assert Exited(7) == (await waiting).ending
        assert {digest.read_text()} == set(await asyncio.gather(*streams))
        # A later client gets the same output.
        assert digest.read_text() == await hashed(client, job)
        assert ["lost", "back"] * RESTARTS == reports
    for process, status in ((run, 7), (stream, 0), (wait, 0)):
        out, err = process.communicate(timeout=60)
        lines = err.decode().splitlines()
        assert (status, ["the server is back"] * (len(lines) // 2)) == (
            process.returncode,
            [line.removeprefix("worker: ") for line in lines[1::2]],
        ), err
        assert all(line.endswith("; trying again for 60 s") for line in lines[::2]), err
        assert len(lines) >= 2
        if process is wait:
            assert b"7\n" == out
    for file in (output, streamed):
        assert digest.read_text() == hashlib.sha256(file.read_bytes()).hexdigest()


def connections(installation):
    """Return the number of connections to the server."""
    port = int((installation.home / "address").read_text().rpartition(":")[2])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{port:04X}") and state == "01" for _, local, _, state, *_ in lines)


async def hashed(client, job):
    """Return the hash of a job's output; assert that no byte is missing or repeated."""
    digest, position = hashlib.sha256(), 0
    async for chunk in Job(client, job).stream():
        assert position == chunk.offset
        digest.update(chunk.data)
        position += len(chunk.data)
    return digest.hexdigest()


async def test_starts_during_restarts_start_one_job_each(installation, tmp_path):
    """Each Start runs its command once, although the server restarts meanwhile."""
    runs = tmp_path / "runs"
    runs.mkdir()
    program = f"import sys, tempfile; tempfile.mkstemp(prefix=sys.argv[1] + '-', dir={str(runs)!r})"

    def spec(number):
        return JobSpec(sys.executable, ["-c", program, str(number)])

    async with Client(installation.connection) as client:
        assert await client.health()
        starts = [
            asyncio.create_task(start_after(client, number * 0.05, spec(number))) for number in range(60)
        ]
        for number in range(3):
            await asyncio.to_thread(restart, installation, number)
        jobs = await asyncio.gather(*starts)
        for job in jobs:
            assert Exited(0) == (await Job(client, job).wait()).ending
        assert set(jobs) == {status.record.id for status in await client.list()}
    assert sorted(map(str, range(60))) == sorted(path.name.partition("-")[0] for path in runs.iterdir())


async def start_after(client, seconds, spec):
    """Start a job after a delay."""
    await asyncio.sleep(seconds)
    return (await client.start(spec)).id


def test_the_server_does_not_come_back(installation, until):
    """After the timeout, commands report the error and how to resume, and exit with the usual status."""
    job = installation.start("sh", "-c", "echo before; sleep 1000")
    wait = begin(installation, "wait", "--reconnect", "1s", job)
    stream = begin(installation, "stream", "--reconnect", "1s", job)
    one = ("--no-split-output", "--reconnect", "1s")
    run = begin(installation, "run", *one, "sh", "-c", "echo before; sleep 1000")
    until(lambda: connections(installation) == 3)
    assert b"before\n" == stream.stdout.readline()
    assert b"before\n" == run.stdout.readline()
    installation.kill(installation.server_pid())
    ends = [process.communicate(timeout=60)[1].decode().splitlines() for process in (stream, wait, run)]
    assert [1, 1, 125] == [process.returncode for process in (stream, wait, run)]
    for lost, given_up in ends:
        assert lost.endswith("; trying again for 1 s")
        assert given_up.startswith("worker: cannot reach the server at ")
        assert "connection refused" in given_up
    assert ends[0][1].endswith(f"to resume from here: worker stream {job} --offset 7")
    assert re.search("; the job keeps running: worker stream [0-9a-f-]{36} --offset 7$", ends[2][1])


def test_how_to_resume_a_selected_channel(installation):
    """The message names the channel and its offset."""
    job = installation.start("--split-output", "sh", "-c", "echo out; echo error >&2; sleep 1000")
    stream = begin(installation, "stream", "--reconnect", "0", "--stderr", job)
    assert b"error\n" == stream.stdout.readline()
    installation.kill(installation.server_pid())
    _, errors = stream.communicate(timeout=60)
    assert errors.decode().endswith(f"; to resume from here: worker stream {job} --stderr --offset 6\n")
    assert 1 == stream.returncode


def test_a_job_whose_stream_is_rejected(install, tmp_path):
    """The job runs, and `worker run` reports its id."""
    installation = install(tmp_path / "home")
    installation.worker("up", "--max-streams", "1")
    holder = begin(installation, "stream", installation.start("sh", "-c", "echo; sleep 1000"))
    assert b"\n" == holder.stdout.readline()
    refused = installation.run("run", "sleep", "1000")
    holder.terminate()
    holder.communicate(timeout=60)
    resume = re.search("; the job keeps running: worker stream ([0-9a-f-]{36})\n$", refused.stderr.decode())
    assert 125 == refused.returncode
    assert refused.stderr.startswith(b"worker: 1 streams are open, the maximum (setting max_streams)")
    assert "running" == installation.query(resume[1])["state"]


def test_interrupted_while_the_server_is_away(installation):
    """Ctrl-C works at any time: stream ends at the first, run at the second, and the jobs continue."""
    job = installation.start("sh", "-c", "echo before; sleep 1000")
    stream = begin(installation, "stream", job)
    run = begin(installation, "run", "sh", "-c", "echo before; sleep 1000")
    for process in (stream, run):
        assert b"before\n" == process.stdout.readline()
    installation.kill(installation.server_pid())
    for process in (stream, run):
        assert b"connection lost; trying again for 60 s\n" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
    assert b"as soon as the server is back; interrupt again to give up\n" in run.stderr.readline()
    run.send_signal(signal.SIGINT)
    assert (b"\n", 130) == (stream.communicate(timeout=60)[1], stream.returncode)
    _, err = run.communicate(timeout=60)
    assert (130, True) == (run.returncode, err.startswith(b"worker: the job keeps running: worker stream "))
    installation.worker("up")
    assert 3 == len(installation.worker("list", "--running").splitlines())


def test_a_closed_pipe_while_the_job_is_silent(installation):
    """The command ends without another line of output, as with `| head`."""
    job = installation.start("sh", "-c", "echo before; sleep 1000")
    stream = begin(installation, "stream", job)
    assert b"before\n" == stream.stdout.readline()
    stream.stdout.close()
    assert (b"", 141) == (stream.stderr.read(), stream.wait(timeout=60))
    stream.stderr.close()


@pytest.mark.parametrize("into_pipe", [True, False])
def test_progress_is_for_terminals(shared, into_pipe):
    """Bytes and rate are shown on a terminal if stdout is a pipe, and never in the output."""
    job = shared.start("head", "-c", "3000000", "/dev/zero")
    shared.worker("wait", job)
    ours, theirs = pty.openpty()
    stream = subprocess.Popen(
        [*shared.command, "stream", "--progress", job],
        env=shared.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs if into_pipe else subprocess.PIPE,
    )
    out, err = stream.communicate(timeout=60)
    os.close(theirs)
    assert (0, 3_000_000) == (stream.returncode, len(out))
    if into_pipe:
        assert os.read(ours, 10_000).startswith(b"3.0 MB  ")
    else:
        assert b"" == err
    os.close(ours)


def test_progress_counts_both_channels(shared):
    """The number of bytes is that of stdout and stderr; stderr of the job is printed beside it."""
    script = "head -c 2000 /dev/zero; head -c 998 /dev/zero | tr '\\0' e >&2; echo >&2"
    job = shared.start("--split-output", "sh", "-c", script)
    shared.worker("wait", job)
    ours, theirs = pty.openpty()
    stream = subprocess.Popen(
        [*shared.command, "stream", "--progress", job],
        env=shared.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    out, _ = stream.communicate(timeout=60)
    shown = b""
    while b"/s\x1b[K\r\n" not in shown:
        shown += os.read(ours, 10_000)
    assert (0, 2000) == (stream.returncode, len(out))
    assert b"e" * 998 + b"\r\n" in shown
    assert b"3.0 kB  " in shown
    os.close(theirs)
    os.close(ours)


def test_a_request_id_of_the_user(shared):
    """Two starts with the same id are one job; another command with that id is rejected."""
    first = shared.start("--request-id", "nightly", "echo", "once")
    assert first == shared.start("--request-id", "nightly", "echo", "once")
    done = shared.run("run", "--no-split-output", "--request-id", "nightly", "echo", "once")
    assert (0, b"once\n") == (done.returncode, done.stdout)
    other = shared.run("start", "--request-id", "nightly", "echo", "other")
    assert b"worker: request id 'nightly' was used" in other.stderr
