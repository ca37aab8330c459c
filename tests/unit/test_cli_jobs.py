"""Jobs by name, prefix, @last and label, several at once, through the real commands."""

import asyncio
import json
import os
import pty
from pathlib import Path
from uuid import UUID

import click

from worker.cli.completion import jobs_beginning_with
from worker.client.address import Address
from worker.core.model.job import JobId, JobState

from ..support.commands import begin, command, finish, interrupt
from ..support.restarted import Machine, serving


async def started(machine: Machine, *words: str) -> str:
    """Start a job with the command, and return its id."""
    done = await command(machine, "start", *words)
    assert (0, "") == (done.status, done.err)
    return done.out.decode().split()[1]


async def test_a_name(pki: Path) -> None:
    """It stands for the job in every command; the second running job of a name is refused."""
    async with serving(pki) as machine:
        job = await started(machine, "--name", "build", "sleep", "1000")
        again = await command(machine, "start", "--name", "build", "true")
        assert 1 == again.status
        assert f"worker: job {job} named build is running; choose another name, " in again.err
        assert b"Exited: false\n" in (await command(machine, "query", "build")).out
        stopped = await command(machine, "stop", "build")
        assert f"Job {job} has been stopped\n" == stopped.out.decode()
        assert b"143\n" == (await command(machine, "wait", "build")).out
        assert f"Job {job} has been removed\n" == (await command(machine, "remove", job[:8])).out.decode()


async def test_a_name_that_no_job_has(pki: Path) -> None:
    """The error is in words, and nothing else happens; an id keeps the line of the original design."""
    async with serving(pki) as machine:
        job = await started(machine, "true")
        for words in (("stop", "nope"), ("stream", "nope"), ("update", "--pids", "9", "nope")):
            done = await command(machine, *words)
            assert (1, b"", "worker: No job named nope; `worker list` prints all jobs\n") == (
                done.status,
                done.out,
                done.err,
            )
        assert 0 == (await command(machine, "remove", job)).status
        done = await command(machine, "query", job)
        assert (1, f"rpc error: code = NotFound desc = Job {job} not found\n") == (done.status, done.err)


async def test_several_jobs(pki: Path) -> None:
    """Results come in the order of the arguments; one error does not keep the others from being used."""
    async with serving(pki) as machine:
        one, two = await started(machine, "sleep", "1000"), await started(machine, "sleep", "1000")
        done = await command(machine, "stop", two, "nope", one)
        assert 1 == done.status
        assert f"Job {two} has been stopped\nJob {one} has been stopped\n" == done.out.decode()
        assert "worker: No job named nope; `worker list` prints all jobs\n" == done.err
        found = json.loads((await command(machine, "query", "-o", "json", one, "@last")).out)
        assert [one, two] == [each["id"] for each in found]
        single = json.loads((await command(machine, "query", "-o", "json", one)).out)
        assert one == single["id"]


async def test_labels(pki: Path) -> None:
    """A label selects running jobs to stop, and finished ones to remove; != excludes."""
    async with serving(pki) as machine:
        mine = await started(machine, "-l", "team=a", "sleep", "1000")
        other = await started(machine, "-l", "team=b", "sleep", "1000")
        done = await command(machine, "stop", "--label", "team=a")
        assert f"Job {mine} has been stopped\n" == done.out.decode()
        done = await command(machine, "remove", "--label", "team!=b")
        assert f"Job {mine} has been removed\n" == done.out.decode()
        nothing = await command(machine, "stop", "--label", "team=none")
        assert (0, b"", "") == (nothing.status, nothing.out, nothing.err)
        assert [JobState.RUNNING] == [each.state for each in await machine.worker.list()]
        assert f"{other}\n" == (await command(machine, "list", "-q", "-l", "team=b")).out.decode()


async def test_lists(pki: Path) -> None:
    """The newest job comes first; filters, numbers and JSON lines."""
    async with serving(pki) as machine:
        jobs = [await started(machine, *words) for words in (("true",), *2 * (("sleep", "1000"),))]
        machine.spawner.kill(JobId(UUID(jobs[1])))
        for job in jobs[:2]:
            await command(machine, "wait", job)
        newest_first = "".join(f"{job}\n" for job in reversed(jobs))
        assert newest_first == (await command(machine, "list", "-q")).out.decode()
        assert f"{jobs[1]}\n" == (await command(machine, "list", "-q", "--failed")).out.decode()
        assert f"{jobs[2]}\n" == (await command(machine, "list", "-q", "--running")).out.decode()
        assert f"{jobs[2]}\n" == (await command(machine, "list", "-q", "-n", "1")).out.decode()
        lines = (await command(machine, "list", "-o", "jsonl")).out.splitlines()
        assert jobs[::-1] == [json.loads(line)["id"] for line in lines]


async def test_words_of_docker(pki: Path) -> None:
    """Ps has running jobs, logs do not follow, kill sends a signal, rm removes, inspect is a list."""
    async with serving(pki) as machine:
        job = await started(machine, "--name", "one", "sleep", "1000")
        await started(machine, "true")
        assert f"{job}\n" == (await command(machine, "ps", "-q")).out.decode()
        assert 2 == len((await command(machine, "ps", "-aq")).out.splitlines())
        logs = await command(machine, "logs", "one")
        assert (0, b"", "") == (logs.status, logs.out, logs.err)
        refused = await command(machine, "rm", "one")
        assert 1 == refused.status
        killed = await command(machine, "kill", "one")
        assert f"Job {job} has been signalled\n" == killed.out.decode()
        assert b"137\n" == (await command(machine, "wait", "one")).out
        (found,) = json.loads((await command(machine, "inspect", "one")).out)
        assert "one" == found["name"]
        forced = await started(machine, "--name", "two", "sleep", "1000")
        assert (
            f"Job {forced} has been removed\n" == (await command(machine, "rm", "-f", "two")).out.decode()
        )


async def test_versions_and_ping(pki: Path) -> None:
    """Both sides have a version; a server that does not answer is an error of ping, not of version."""
    async with serving(pki) as machine:
        versions = json.loads((await command(machine, "version", "-o", "json")).out)
        assert versions["client"] == versions["server"]
        ping = json.loads((await command(machine, "ping", "-o", "json")).out)
        assert versions["server"] == ping["version"]
        await machine.down()
        done = await command(machine, "version")
        assert 0 == done.status
        assert done.err.startswith("worker: cannot reach the server")
        assert 1 == (await command(machine, "ping")).status


async def test_variables(pki: Path, tmp_path: Path) -> None:
    """--env-file has lines as for docker; --env has precedence; a wrong line is named."""
    file = tmp_path / "env"
    file.write_text("# comment\n\nONE=1\nTWO=a b\nPATH\n")
    async with serving(pki) as machine:
        await started(machine, "--env-file", str(file), "-e", "ONE=2", "true")
        (found,) = await machine.worker.list()
        environment = dict(found.record.spec.env)
        assert environment.pop("PATH")
        assert {"ONE": "2", "TWO": "a b"} == environment
        file.write_text("ONE=1\nWORKER_NO_SUCH\n")
        done = await command(machine, "start", "--env-file", str(file), "true")
        assert 2 == done.status
        assert "line 2: the variable WORKER_NO_SUCH is not set here" in done.err


async def test_run_removes_its_job(pki: Path) -> None:
    """With --rm nothing is left of it."""
    async with serving(pki) as machine:
        done = await command(machine, "run", "--rm", "echo", "hi")
        assert (0, b"hi\n", "") == (done.status, done.out, done.err)
        assert [] == await machine.worker.list()


async def test_a_stream_of_several_jobs(pki: Path) -> None:
    """Each line has the name of its job, or the beginning of its id, before it; pieces become lines."""
    async with serving(pki) as machine:
        other = await started(machine, "echo", "hello")
        await started(machine, "--name", "first", "echo", "one\ntwo")
        done = await command(machine, "stream", "first", other)
        assert (0, "") == (done.status, done.err)
        lines = done.out.decode().splitlines()
        assert ["first    | one", "first    | two"] == [each for each in lines if each.startswith("first")]
        assert f"{other[:8]} | hello" in lines
        assert 3 == len(lines)
        for words in (("stream", "--offset", "1", "first", other), ("stream", "-t", "first", other)):
            done = await command(machine, *words)
            assert 2 == done.status
            assert "with several jobs, use only --tail and --no-follow" in done.err
        into_a_closed_pipe = ("sh", "-c", '"$@" | true', "sh")
        closed = await finish(await begin(machine, "stream", "first", other, wrapper=into_a_closed_pipe))
        assert "" == closed.err
        missing = await command(machine, "stream", "first", "nope")
        assert (1, "worker: No job named nope; `worker list` prints all jobs\n") == (
            missing.status,
            missing.err,
        )


async def test_an_interrupt_says_what_happens(pki: Path) -> None:
    """On a terminal, the first Ctrl-C of `run` tells what the second one does."""
    async with serving(pki) as machine:
        ours, theirs = pty.openpty()
        process = await begin(machine, "run", "sleep", "1000", stderr=theirs)
        os.close(theirs)
        while not await machine.worker.list():
            await asyncio.sleep(0.01)
        done = await interrupt(process)
        assert 130 == done.status
        assert b"stopping the job; interrupt again to kill it\r\n" == os.read(ours, 1000)
        os.close(ours)


async def test_the_shell_completes_jobs(pki: Path) -> None:
    """Names and ids that begin with the text, from the server of the options, if it answers."""
    async with serving(pki) as machine:
        job = await started(machine, "--name", "build", "sleep", "1000")
        files = {
            name: pki / f"{file}"
            for name, file in (("ca", "ca.crt"), ("cert", "writer.crt"), ("key", "writer.key"))
        }
        context = click.Context(click.Command("query"))
        context.params = {"server": Address("127.0.0.1", machine.port), **files}
        for text, expected in (("bu", ["build"]), (job[:5], [job]), ("x", [])):
            found = await asyncio.to_thread(jobs_beginning_with, text, context)
            assert expected == [each.value for each in found]
        await machine.down()
        assert [] == await asyncio.to_thread(jobs_beginning_with, "bu", context)
