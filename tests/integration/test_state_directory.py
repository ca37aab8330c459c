"""A state directory that is full, read-only, missing or damaged: clear errors, no effect on other jobs."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest

from worker import JobSpec
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.model.ending import Channel
from worker.core.model.stream_start import LastLines
from worker.linux.kernel import procfs

from ..support.mounts import fill, read_only
from ..support.waiting import PATIENCE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextmanager
def moved_away(path):
    """Move a directory away for a while, as if its disk were not mounted."""
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)


def waiting(gate, then):
    """Return a job that waits for a file before it continues."""
    return JobSpec("sh", ["-c", f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; {then}"])


async def first_output(until, home, job):
    """Wait until output is recorded; while the recorder opens files, ``home`` cannot be remounted."""
    await asyncio.to_thread(until, lambda: (home / "jobs" / str(job) / "output-0").stat().st_size > 0)


async def rejection(client):
    """Return why no job can be started, and check that no such job is known."""
    known = {each.record.id for each in await client.list()}
    with pytest.raises(RpcError) as refusal:
        await client.start(JobSpec("true"))
    assert known == {each.record.id for each in await client.list()}
    return refusal.value


async def streamed(client, job):
    """Return all output of a job."""
    return b"".join([chunk.data async for chunk in Job(client, job).stream()])


@needs_root
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(read_only, "Read-only file system"), (moved_away, "put it back, or restart the server")],
)
async def test_a_state_directory_that_cannot_be_written(install, tmp_path, until, trouble, reason):
    """New jobs are rejected with the reason, server and jobs continue; once repaired, all works again."""
    home = tmp_path / "home"
    worker = install(home)
    worker.worker("up")
    gate = tmp_path / "gate"
    async with worker.client() as client:
        job = (await client.start(waiting(gate, "echo after; exit 7"))).id
        await first_output(until, home, job)
        with trouble(home):
            refusal = await rejection(client)
            assert ("FailedPrecondition", True) == (refusal.code, reason in refusal.message)
            assert [job] == [each.record.id for each in await client.list(running=True)]
            gate.touch()
        status = await Job(client, job).wait()
        assert 7 == status.ending.code
        assert b"before\nafter\n" == await streamed(client, job)
        another = (await client.start(JobSpec("echo", ["again"]))).id
        assert b"again\n" == await streamed(client, another)


@needs_root
async def test_a_job_that_ends_on_a_read_only_file_system(install, tmp_path, until):
    """The end of a job is reported although its history cannot be deleted; the deletion is retried."""
    home, gate = tmp_path / "home", tmp_path / "gate"
    worker = install(home)
    worker.worker("up")
    async with worker.client() as client:
        job = str(await client.start(waiting(gate, "exit 7")))
        await first_output(until, home, job)
        with read_only(home):
            gate.touch()
            status = await asyncio.wait_for(Job(client, job).wait(), PATIENCE)
        assert 7 == status.ending.code
    until(lambda: not (home / "jobs" / job / "history").exists())


async def test_a_full_disk(small_disk, install, tmp_path):
    """A start is rejected for lack of space; query, list and stream work, and later starts too."""
    worker = install(small_disk)
    worker.worker("up")
    async with worker.client() as client:
        done = (await client.start(JobSpec("echo", ["kept"]))).id
        await Job(client, done).wait()
        filler = fill(small_disk)
        refusal = await rejection(client)
        assert refusal.code in {"ResourceExhausted", "FailedPrecondition"}
        assert "full" in refusal.message or "No space" in refusal.message
        assert b"kept\n" == await streamed(client, done)
        filler.unlink()
        again = (await client.start(JobSpec("echo", ["again"]))).id
        assert b"again\n" == await streamed(client, again)


def test_a_job_that_a_full_disk_blocks_is_reported(small_disk, install, until):
    """Query, doctor and stop report which job is blocked and why; with free space it continues."""
    worker = install(small_disk)
    worker.worker("up")
    job = worker.start("sh", "-c", "head -c 20000000 /dev/zero; echo done")
    until(lambda: worker.query(job)["output_trouble"] == "No space left on device")
    held_up = "its output cannot be recorded: No space left on device; it blocks when it writes until"
    assert held_up in worker.worker("query", "-o", "wide", job)
    findings = json.loads(worker.worker("doctor", "-o", "json", code=1))["findings"]
    problems = {each["subject"]: each["text"] for each in findings if each["verdict"] != "ok"}
    assert problems[f"job {job}"].startswith(held_up)
    assert "0 free" in problems["state"]
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    assert 0 == worker.wait(job)["exit_code"]
    assert None is worker.query(job)["output_trouble"]
    assert bytes(20_000_000) + b"done\n" == worker.stream(job)


@pytest.mark.parametrize("delete", [lambda job: (job / "output-0").unlink(), shutil.rmtree])
async def test_output_deleted_under_a_running_job(shared, tmp_path, delete):
    """Streams wait for more output, and report missing bytes; the job and all others continue."""
    gate = tmp_path / "gate"
    async with shared.client() as client:
        job = (await client.start(waiting(gate, "echo after; exit 7"))).id
        other = (await client.start(waiting(gate, "echo other"))).id
        async for _ in Job(client, job).stream():
            break
        delete(shared.home / "jobs" / str(job))
        tail = Job(client, job).stream(start=LastLines(5))
        assert (0, b"") == ((begin := await anext(tail)).offset, begin.data)
        assert b"" == b"".join([chunk.data async for chunk in Job(client, job).stream(follow=False)])
        gate.touch()
        chunks = [chunk async for chunk in tail]  # the first is empty if its segment has no bytes yet
        assert (7, b"after\n") == (chunks[0].offset, b"".join(chunk.data for chunk in chunks))
        status = await Job(client, job).wait()
        assert 7 == status.ending.code
        extent = status.output[Channel.OUTPUT]
        assert (7, 13) == (extent.first, extent.end)
        chunks = [chunk async for chunk in Job(client, job).stream()]
        assert [(7, b"after\n")] == [(chunk.offset, chunk.data) for chunk in chunks]
        assert b"before\nother\n" == await streamed(client, other)


async def test_output_deleted_before_the_recorder_is_killed(installation, tmp_path):
    """The next recorder nevertheless continues at the correct offset."""
    gate = tmp_path / "gate"

    async with installation.client() as client:
        job = (await client.start(waiting(gate, "echo after"))).id
        async for _ in Job(client, job).stream():
            break
        (installation.home / "jobs" / str(job) / "output-0").unlink()
        installation.kill(installation.recorder_pid())
        gate.touch()
        await Job(client, job).wait()
        chunks = [(chunk.offset, chunk.data) async for chunk in Job(client, job).stream()]
    assert [(7, b"after\n")] == chunks


async def test_a_job_whose_last_output_was_deleted(shared, tmp_path):
    """A stream reports the gap also if no output follows it."""
    gate = tmp_path / "gate"

    async with shared.client() as client:
        job = (await client.start(waiting(gate, "exit 7"))).id
        async for _ in Job(client, job).stream():
            break
        (shared.home / "jobs" / str(job) / "output-0").unlink()
        gate.touch()
        assert 7 == (await Job(client, job).wait()).ending.code
    done = shared.run("stream", str(job))
    assert (0, b"") == (done.returncode, done.stdout)
    assert "7 bytes" in done.stderr.decode()
    assert "no longer kept" in done.stderr.decode()


def test_a_journal_that_is_corrupt(installation, tmp_path):
    """No server starts with it or changes it; jobs continue, and are known once it is restored."""
    gate = tmp_path / "gate"
    done = installation.start("echo", "kept")
    installation.wait(done)
    job = installation.start("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.05; done; echo after; exit 7")
    installation.worker("down")
    journal = installation.home / "journal.db"
    good = journal.read_bytes()
    spoiled = b"\xff" * len(good)
    journal.write_bytes(spoiled)
    rejection = installation.run("up")
    assert 1 == rejection.returncode
    assert f"{journal} is corrupt (it is not a database) and was not changed; restore it" in (
        rejection.stderr.decode()
    )
    findings = json.loads(installation.worker("doctor", "-o", "json", code=1))["findings"]
    [finding] = [each for each in findings if each["subject"] == "journal"]
    assert ("missing", True) == (finding["verdict"], finding["remedy"].startswith("restore it"))
    assert spoiled == journal.read_bytes()
    gate.touch()
    journal.write_bytes(good)
    installation.worker("up")
    assert 7 == installation.wait(job)["exit_code"]
    assert b"after\n" == installation.stream(job)
    assert b"kept\n" == installation.stream(done)


@pytest.mark.parametrize("spoil", ["'nonsense'", "json_set(record, '$.pid', 'seven')"])
def test_one_bad_row(installation, spoil):
    """Its job is ignored and reported by log and doctor, its output is kept; other jobs are unaffected."""
    bad, good = installation.start("echo", "bad"), installation.start("echo", "good")
    for job in (bad, good):
        installation.wait(job)
    installation.worker("down")
    with closing(sqlite3.connect(installation.home / "journal.db")) as database, database:
        (record,) = database.execute("SELECT record FROM jobs WHERE id = ?", (bad,)).fetchone()
        database.execute(f"UPDATE jobs SET record = {spoil} WHERE id = ?", (bad,))
    installation.worker("up")
    refusal = f"worker: the record of job {bad} cannot be read; `worker doctor` has the reason\n"
    assert refusal == installation.run("query", bad).stderr.decode()
    assert [good] == [each["id"] for each in json.loads(installation.worker("list", "-o", "json"))]
    assert b"good\n" == installation.stream(good)
    message = f"cannot read the record of job {bad}; ignoring the job"
    assert message in (installation.home / "server.log").read_text()
    assert f"the record of job {bad} cannot be read" in installation.worker("doctor")
    installation.worker("down")
    with closing(sqlite3.connect(installation.home / "journal.db")) as database, database:
        database.execute("UPDATE jobs SET record = ? WHERE id = ?", (record, bad))
    installation.worker("up")
    assert b"bad\n" == installation.stream(bad)


def test_a_server_does_not_start_in_a_read_only_directory(install, tmp_path):
    """It reports the reason in one line."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    home = tmp_path / "home"
    worker = install(home)
    worker.worker("up")
    worker.worker("down")
    with read_only(home):
        rejection = worker.run("serve")
    assert (1, 1) == (rejection.returncode, rejection.stderr.count(b"\n"))
    assert b"Read-only file system" in rejection.stderr
    worker.worker("up")


def test_damaged_histories(installation, until, tmp_path):
    """The next supervisor takes over all other jobs; these are lost, with the reason, and ended."""
    gate = tmp_path / "gate"
    wait_for_gate = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    torn = b'\n{"start": {"pid": 1'
    spoiled = {
        installation.start("sh", "-c", "echo before; exec env -i sleep 1000"): text
        for text in (b"\xff" * 1000, b"", torn)
    }
    pids = [installation.query(job)["pid"] for job in spoiled]
    other = installation.start("sh", "-c", f"{wait_for_gate}; echo after; exit 7")
    server = os.pidfd_open(installation.server_pid())
    installation.worker("down")
    installation.await_pidfd(server)
    for job, text in spoiled.items():
        (installation.home / "jobs" / job / "history").write_bytes(text)
    installation.kill(installation.supervisor_pid())
    installation.worker("up")
    for job, text in spoiled.items():
        history = installation.home / "jobs" / job / "history"
        facts = installation.wait(job)
        assert "lost" == facts["state"]
        assert f"{history} does not name a main process" in facts["lost_reason"]
        assert text == history.with_name("history.unreadable").read_bytes()
        assert b"before\n" == installation.stream(job)
    until(lambda: not any(procfs.command_line(pid) for pid in pids))
    gate.touch()
    assert 7 == installation.wait(other)["exit_code"]
    assert b"after\n" == installation.stream(other)
    installation.worker("down")
    installation.worker("up")  # their cgroups are known to no job: the next server removes them


def test_a_copy_of_a_job_is_ignored(installation, tmp_path):
    """Neither a supervisor nor a server treats it as a job, or removes it."""
    gate = tmp_path / "gate"
    job = installation.start("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.05; done; exit 7")
    jobs = installation.home / "jobs"
    copy = jobs / f"{job}.copy"
    subprocess.run(["cp", "-a", jobs / job, copy], check=True)
    (jobs / "README").write_text("not a job\n")
    installation.kill(installation.supervisor_pid())
    gate.touch()
    assert 7 == installation.wait(job)["exit_code"]
    server = os.pidfd_open(installation.server_pid())
    installation.worker("down")
    installation.await_pidfd(server)
    installation.worker("up")
    assert (copy / "history").exists()
    assert (jobs / "README").exists()
    shutil.rmtree(copy)  # including its FIFO, which the fixture would report


async def test_all_output_is_deleted_under_a_running_server(installation, tmp_path):
    """Starts are rejected, running jobs are known and keep their last output; later all works again."""
    gate, jobs = tmp_path / "gate", installation.home / "jobs"
    async with installation.client() as client:
        job = (await client.start(waiting(gate, "echo after; exit 7"))).id
        async for _ in Job(client, job).stream():
            break
        shutil.rmtree(jobs)
        refusal = await rejection(client)
        assert "FailedPrecondition" == refusal.code
        assert "the output of a job cannot be kept: " in refusal.message
        gate.touch()
        while not (status := await client.query(str(job))).output_trouble or not status.ending:
            await asyncio.sleep(0.02)
        assert ("No such file or directory", 7) == (status.output_trouble, status.ending.code)
        os.mkdir(jobs, 0o700)
        assert 7 == (await Job(client, job).wait()).ending.code
        chunks = [chunk async for chunk in Job(client, job).stream()]
        assert [(7, b"after\n")] == [(chunk.offset, chunk.data) for chunk in chunks]
        again = (await client.start(JobSpec("echo", ["again"]))).id
        assert b"again\n" == await streamed(client, again)


def test_a_server_restarts_on_a_full_disk(small_disk, install):
    """It starts without free space and knows all jobs, or reports why it cannot."""
    worker = install(small_disk)
    worker.worker("up")
    job = worker.start("echo", "kept")
    worker.wait(job)
    # It could not record a port chosen by the system.
    worker.env["WORKER_LISTEN"] = (small_disk / "address").read_text().strip()
    fill(small_disk)
    worker.kill(worker.server_pid())
    again = worker.run("up")
    if again.returncode == 0:
        assert b"kept\n" == worker.stream(job)
    else:
        assert b"No space left" in again.stderr or b"full" in again.stderr, again.stderr
    os.unlink(small_disk / "filler")
    worker.worker("up")
    assert b"kept\n" == worker.stream(job)


def test_a_home_whose_name_is_not_text(install, tmp_path):
    """The name of a directory is bytes: jobs run in it, and are stopped, as in any other."""
    installation = install(tmp_path / os.fsdecode(b"not \xff UTF-8"))
    installation.worker("up")
    job = installation.start("sh", "-c", "echo out; exec sleep 1000")
    installation.kill(installation.supervisor_pid())
    installation.worker("stop", job)
    assert b"out\n" == installation.stream(job)
