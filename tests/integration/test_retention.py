"""Finished jobs are removed completely when their retention ends."""

from dataclasses import replace
from pathlib import Path

from worker import JobSpec
from worker.client.job import Job
from worker.linux.journal.sqlite import SqliteJournal

ECHO = JobSpec("echo", ["hello"])


async def start_all(installation) -> list[str]:
    """Start three jobs with request ids, each after the end of the previous one."""
    jobs = []
    async with installation.client() as client:
        for number in range(3):
            jobs.append(str(await client.start(ECHO, request_id=f"r{number}")))
            await Job(client, jobs[-1]).wait()
    return jobs


async def end_an_hour_ago(home: Path) -> None:
    """Change the journal as if the jobs had ended an hour earlier."""
    journal = SqliteJournal(home / "journal.db")
    for record in await journal.load():
        assert record.end is not None
        await journal.put(replace(record, end=replace(record.end, ended_at=record.end.ended_at - 3600)))
    await journal.close()


async def test_the_oldest_jobs_are_removed(installation, until) -> None:
    """Record and output of the oldest are removed; repeating their requests starts no job."""
    jobs = await start_all(installation)
    installation.worker("down")
    await end_an_hour_ago(installation.home)
    installation.worker("up", "--retention-jobs", "1")
    until(lambda: [jobs[2]] == [path.name for path in (installation.home / "jobs").iterdir()])
    assert jobs == await start_all_again(installation)
    assert [jobs[2]] == [path.name for path in (installation.home / "jobs").iterdir()]
    assert "not found" in installation.run("query", jobs[0]).stderr.decode()
    assert b"hello\n" == installation.stream(jobs[2])


async def start_all_again(installation) -> list[str]:
    """Repeat the requests."""
    async with installation.client() as client:
        return [str(await client.start(ECHO, request_id=f"r{number}")) for number in range(3)]
