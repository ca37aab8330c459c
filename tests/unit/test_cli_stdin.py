"""How `run -i`, `start -i` and `attach -i` pass stdin on, and what they do without -i."""

import asyncio
import os
import pty
import signal
import socket
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from worker.core.model.job import JobId, JobSpec, JobState

from ..support.commands import begin, command, finish, interrupt, piped
from ..support.restarted import Machine, Wire, serving

CAT = JobSpec("cat", stdin=True)
BYTES = bytes(range(256)) * 20_000
HINT = "worker: stdin is not passed to the job; use -i to pass it, or < /dev/null\n"


def recorded(machine: Machine) -> bytes:
    """Return the output of the only job."""
    [job] = machine.outputs.jobs
    return bytes(machine.outputs.sink(job).data)


async def the_job(machine: Machine) -> JobId:
    """Wait until there is a job and its command is executed, and return its id."""
    while not (found := await machine.worker.list()) or found[0].state is JobState.STARTING:
        await asyncio.sleep(0.01)
    return found[0].record.id


async def state(machine: Machine, job: JobId) -> JobState:
    """Return the state of a job."""
    return (await machine.worker.query(job)).state


async def line_of(process: Process) -> str:
    """Return the next line on stdout of a command."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


def type_into(process: Process, data: bytes) -> None:
    """Write to the stdin of a command."""
    assert process.stdin is not None
    process.stdin.write(data)


@pytest.mark.parametrize("kind", ["pipe", "file"])
async def test_run_passes_all_of_stdin(pki: Path, tmp_path: Path, kind: str) -> None:
    """Any bytes, any size; the end of stdin is the end of the input of the job."""
    async with serving(pki) as machine:
        if kind == "pipe":
            done = await piped(machine, BYTES, "run", "-i", "cat")
        else:
            (tmp_path / "file").write_bytes(BYTES)
            with (tmp_path / "file").open("rb") as file:
                done = await command(machine, "run", "--interactive", "cat", stdin=file)
        assert (0, "") == (done.status, done.err)
        assert BYTES == done.out


async def test_an_interactive_run(pki: Path) -> None:
    """Output comes while stdin is open; the command ends with the job, while a read of stdin waits."""
    async with serving(pki) as machine:
        process = await begin(machine, "run", "-i", "cat", stdin=PIPE)
        for line in ("one\n", "two\n"):
            type_into(process, line.encode())
            assert line == await line_of(process)
        machine.spawner.kill(await the_job(machine), signal.SIGTERM)
        assert 128 + signal.SIGTERM == await process.wait()
        assert process.stdin is not None
        process.stdin.close()


async def test_a_terminal(pki: Path) -> None:
    """Lines that are typed reach the job, and the terminal is not made non-blocking."""
    async with serving(pki) as machine:
        ours, theirs = pty.openpty()
        try:
            process = await begin(machine, "run", "-i", "cat", stdin=theirs)
            os.write(ours, b"hello\n")
            assert "hello\n" == await line_of(process)
            assert os.get_blocking(theirs)
            os.write(ours, b"\x04")  # the end of file of a terminal
            assert 0 == (await finish(process)).status
        finally:
            os.close(ours)
            os.close(theirs)


async def test_a_nonblocking_stdin(pki: Path) -> None:
    """O_NONBLOCK, which another process may have set, is no error."""
    async with serving(pki) as machine:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        process = await begin(machine, "run", "-i", "cat", stdin=reader)
        os.close(reader)
        await the_job(machine)
        os.write(writer, b"late")
        os.close(writer)
        assert b"late" == (await finish(process)).out


async def test_a_signal_stops_the_job_of_an_interactive_run(pki: Path) -> None:
    """The same as without -i."""
    async with serving(pki) as machine:
        process = await begin(machine, "run", "-i", "cat", stdin=PIPE)
        type_into(process, b"one\n")
        await line_of(process)
        assert 130 == (await interrupt(process)).status
        assert JobState.EXITED is await state(machine, await the_job(machine))


@pytest.mark.parametrize("words", [("run", "-i", "cat"), ("start", "-i", "cat"), ("attach", "-i", "JOB")])
async def test_an_unreadable_stdin(pki: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The error names it, and no job is started. A directory is rejected by the interpreter itself."""
    async with serving(pki) as machine:
        with (tmp_path / "file").open("wb") as file:
            done = await command(machine, *words, stdin=file)
        status = 125 if words[0] == "run" else 1
        assert (status, "worker: cannot read stdin: Bad file descriptor\n") == (done.status, done.err)
        assert [] == await machine.worker.list()


async def test_a_stdin_that_fails_later(pki: Path) -> None:
    """The job of `run` is stopped: it must not take what it got for the whole input."""
    async with serving(pki) as machine:
        ours, theirs = pty.openpty()
        process = await begin(machine, "run", "-i", "cat", stdin=theirs)
        os.close(theirs)
        os.write(ours, b"one\n")
        await line_of(process)
        os.close(ours)  # a read of a terminal that was hung up fails, or returns the end of the file
        done = await finish(process)
        assert done.status in {0, 125}
        assert JobState.EXITED is await state(machine, await the_job(machine))


async def test_a_job_that_closes_its_stdin(pki: Path) -> None:
    """The command says so, reads no more, and goes on with output."""
    async with serving(pki) as machine:
        process = await begin(machine, "run", "-i", "--no-split-output", "cat", stdin=PIPE)
        type_into(process, b"one\n")
        await line_of(process)
        job = await the_job(machine)
        machine.spawner.close_input(job)
        type_into(process, b"two\n")
        assert process.stderr is not None
        assert b"worker: the job has closed its stdin\n" == await process.stderr.readline()
        machine.outputs.sink(job).write(b"three\n")
        assert "three\n" == await line_of(process)
        machine.spawner.kill(job)
        assert 137 == (await finish(process)).status


async def test_the_input_resumes_at_the_next_server(pki: Path) -> None:
    """No byte is lost or repeated when the server restarts under a pipe."""
    async with serving(pki) as machine:
        wire = Wire(machine.port)
        async with wire.open() as machine.port:
            process = await begin(machine, "start", "-i", "cat", stdin=PIPE)
            job = await the_job(machine)
            machine.spawner.pause_reading(job)
            finishing = asyncio.ensure_future(finish(process, BYTES))
            await machine.down()
            await machine.up()
            wire.forward_to(machine)
            machine.spawner.resume_reading(job)
            done = await finishing
        assert (0, f"Job {job} is started\n".encode()) == (done.status, done.out)
        await machine.worker.wait(job)
        assert BYTES == recorded(machine)


# --- start -i


async def test_start_passes_a_pipe_to_its_end(pki: Path) -> None:
    """The id is printed when the job has all of its input; the output of the command is as without -i."""
    async with serving(pki) as machine:
        done = await piped(machine, BYTES, "start", "-i", "cat")
        job = await the_job(machine)
        assert (0, f"Job {job} is started\n".encode(), "") == (done.status, done.out, done.err)
        await machine.worker.wait(job)
        assert BYTES == recorded(machine)


@pytest.mark.parametrize("kind", ["terminal", "/dev/null"])
async def test_start_without_input_leaves_stdin_open(pki: Path, kind: str) -> None:
    """A terminal or /dev/null is not passed on: another command attaches later."""
    async with serving(pki) as machine:
        ours, theirs = pty.openpty()
        stdin = theirs if kind == "terminal" else os.open(os.devnull, os.O_RDONLY)
        assert 0 == (await command(machine, "start", "-i", "cat", stdin=stdin)).status
        for descriptor in {ours, theirs, stdin}:
            os.close(descriptor)
        job = await the_job(machine)
        assert JobState.RUNNING is await state(machine, job)
        done = await piped(machine, b"more", "attach", "-i", str(job))
        assert (0, b"more") == (done.status, done.out)


async def test_a_repeated_start_passes_each_byte_once(pki: Path) -> None:
    """With the same request id, the second command continues where the first one was interrupted."""
    words = ("start", "-i", "--request-id", "mine", "cat")
    async with serving(pki) as machine:
        process = await begin(machine, *words, stdin=PIPE)
        type_into(process, b"one")
        job = await the_job(machine)
        while recorded(machine) != b"one":
            await asyncio.sleep(0.01)
        done = await interrupt(process)
        assert (130, f"worker: interrupted; job {job} is started, but did not get all of its input\n") == (
            done.status,
            done.err,
        )
        ended = "worker: the job has ended before all of its input was passed on\n"
        for note in ("", ended):
            done = await piped(machine, b"onetwo", *words)
            assert (0, f"Job {job} is started\n".encode(), note) == (done.status, done.out, done.err)
        assert b"onetwo" == recorded(machine)


async def test_start_of_a_job_that_reads_nothing(pki: Path) -> None:
    """A job that has ended without its input is no error of the command, which says so."""
    async with serving(pki) as machine:
        done = await piped(machine, BYTES, "start", "-i", "true")
        assert 0 == done.status
        assert done.err in {
            "worker: the job has ended before all of its input was passed on\n",
            "worker: the job did not get all of its input: the job has closed its stdin\n",
        }


# --- attach


async def test_attach_prints_output_from_now_on(pki: Path) -> None:
    """Stdout and stderr go to the descriptors of the same names; the command ends with the job."""
    async with serving(pki) as machine:
        job = await machine.worker.start(JobSpec("talk", stdin=True, split_output=True))
        done = await piped(machine, b"more", "attach", "-i", str(job))
        assert (0, b"more", "") == (done.status, done.out, done.err)
        later = await command(machine, "attach", str(job))
        assert (1, b"", f"worker: Job {job} has finished; `worker stream {job}` prints its output\n") == (
            later.status,
            later.out,
            later.err,
        )


async def test_an_interrupted_attach(pki: Path) -> None:
    """The job keeps running, its stdin stays open, and another client continues."""
    async with serving(pki) as machine:
        job = await machine.worker.start(CAT)
        process = await begin(machine, "attach", "-i", str(job), stdin=PIPE)
        type_into(process, b"one\n")
        await line_of(process)
        done = await interrupt(process)
        assert (130, b"", "\n") == (done.status, done.out, done.err)
        assert JobState.RUNNING is await state(machine, job)
        assert b"two\n" == (await piped(machine, b"two\n", "attach", "-i", str(job))).out
        assert b"one\ntwo\n" == recorded(machine)


async def test_a_second_attach(pki: Path) -> None:
    """Any number may watch; one may write, and the next one gets an error."""
    async with serving(pki) as machine:
        job = await machine.worker.start(CAT)
        writer = await begin(machine, "attach", "-i", str(job), stdin=PIPE)
        type_into(writer, b"one\n")
        await line_of(writer)
        refused = await command(machine, "attach", "-i", str(job))
        assert 1 == refused.status
        assert f"worker: another client writes to the stdin of job {job}\n" == refused.err
        assert 0 == (await finish(writer, b"")).status


async def test_attach_to_a_job_without_stdin(pki: Path) -> None:
    """The error states that the job was started without -i."""
    async with serving(pki) as machine:
        job = await machine.worker.start(JobSpec("sleep", ["1000"]))
        done = await piped(machine, b"x", "attach", "-i", str(job))
        assert 1 == done.status
        assert done.err.endswith("was started without an open stdin (option -i)\n")
        assert 1 == done.err.count("\n")


# --- without -i


@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
async def test_waiting_input_is_mentioned(pki: Path, tmp_path: Path, kind: str) -> None:
    """One line on stderr, because the job does not get it."""
    (tmp_path / "file").write_bytes(b"hi\n")
    async with serving(pki) as machine:
        with (tmp_path / "file").open("rb") as file:
            match kind:
                case "pipe":
                    stdin, other = os.pipe()
                    os.write(other, b"hi\n")
                case "socket":
                    one, two = socket.socketpair()
                    two.send(b"hi\n")
                    stdin, other = one.detach(), two.detach()
                case _:
                    stdin, other = os.dup(file.fileno()), os.dup(file.fileno())
            done = await command(machine, "run", "echo", "done", stdin=stdin)
        os.close(stdin)
        os.close(other)
        assert (0, b"done\n", HINT) == (done.status, done.out, done.err)


@pytest.mark.parametrize(
    "kind",
    ["/dev/null", "empty file", "begun file", "empty pipe", "ended pipe", "ended socket", "terminal"],
)
async def test_nothing_is_mentioned(pki: Path, tmp_path: Path, kind: str) -> None:
    """Under cron, ssh and shells, and in a loop that reads a file, there is no hint."""
    (tmp_path / "file").write_bytes(b"" if kind == "empty file" else b"one\ntwo\n")
    close = []
    match kind:
        case "/dev/null":
            stdin = os.open(os.devnull, os.O_RDONLY)
        case "empty pipe" | "ended pipe":
            stdin, writer = os.pipe()
            close.append(writer)
            if kind == "ended pipe":
                os.close(close.pop())
        case "ended socket":
            one, two = socket.socketpair()
            two.close()
            stdin = one.detach()
        case "terminal":
            ours, stdin = pty.openpty()
            close.append(ours)
            os.write(ours, b"typed\n")
        case _:
            stdin = os.open(tmp_path / "file", os.O_RDONLY)
            if kind == "begun file":
                os.read(stdin, 4)
    async with serving(pki) as machine:
        done = await command(machine, "run", "echo", "done", stdin=stdin)
    for descriptor in (stdin, *close):
        os.close(descriptor)
    assert (0, b"done\n", "") == (done.status, done.out, done.err)


async def test_a_closed_stdin_is_empty(pki: Path) -> None:
    """With `<&-` the job reads the end of the file at once."""
    async with serving(pki) as machine:
        closing = ("sh", "-c", 'exec "$@" <&-', "sh")
        done = await finish(await begin(machine, "run", "-i", "cat", wrapper=closing))
        assert (0, b"", "") == (done.status, done.out, done.err)
