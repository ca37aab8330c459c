"""The journal's file: what older versions wrote is read, what newer ones wrote is left alone."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from worker.core.ending import Cause, Channel, End, Exited
from worker.core.errors import JournalUnusable
from worker.core.job import JobRecord, JobSpec, PastRequest, parse_job_id
from worker.linux.journal import SqliteJournal

JOB = parse_job_id("00000000-0000-4000-8000-000000000001")
END = End(Exited(3), Cause.NONE, 0, {Channel.OUTPUT: 6}, 3.5)
RECORD = JobRecord(JOB, JobSpec("echo", ["hello"]), "alice", "r1", 1.5, pid=7, started_at=2.5, end=END)

VERSION_1 = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
PRAGMA user_version = 1;
INSERT INTO jobs VALUES ('{JOB}', 1.5, '{{"id": "{JOB}", "spec": {{"command": "echo", "args": ["hello"]}},
"owner": "alice", "request_id": "r1", "created_at": 1.5, "pid": 7, "started_at": 2.5, "end": {{"ending":
{{"exited": 3}}, "cause": "none", "oom_kills": 0, "output": {{"output": 6}}, "ended_at": 3.5}}}}');
"""


def write(path: Path, script: str) -> None:
    """Make a database as another version would."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(script)


def version(path: Path) -> int:
    """Return the version of a database."""
    with closing(sqlite3.connect(path)) as database:
        (number,) = database.execute("PRAGMA user_version").fetchone()
    assert isinstance(number, int)
    return number


def test_a_journal_of_version_1(tmp_path: Path) -> None:
    """It is brought forward: its jobs are known, and requests can be remembered."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1)
    past = PastRequest("alice", "r1", JOB, "f", 4.5)

    async def scenario() -> None:
        for records in ([RECORD], []):
            journal = SqliteJournal(path)
            assert records == list(await journal.load())
            await journal.remove(JOB, past)
            assert past == await journal.past_request("alice", "r1")
            await journal.close()

    asyncio.run(scenario())
    assert 2 == version(path)


def test_a_journal_of_a_later_version(tmp_path: Path) -> None:
    """It is refused by name and number, and stays as it is."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1 + "PRAGMA user_version = 3;")

    async def scenario() -> None:
        journal = SqliteJournal(path)
        with pytest.raises(JournalUnusable, match=r"journal\.db: written by a newer version.*format 3"):
            await journal.load()
        await journal.close()

    asyncio.run(scenario())
    assert 3 == version(path)


def test_a_migration_that_is_cut_short(tmp_path: Path) -> None:
    """A step is done whole or not at all: what was there already stops it, and the file is as it was."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1 + "CREATE INDEX requests_by_removal ON jobs (created_at);")

    async def scenario() -> None:
        journal = SqliteJournal(path)
        with pytest.raises(JournalUnusable, match="requests_by_removal already exists"):
            await journal.load()
        await journal.close()

    asyncio.run(scenario())
    assert 1 == version(path)
    write(path, "DROP INDEX requests_by_removal; SELECT 1;")
    asyncio.run(_load(path))
    assert 2 == version(path)


async def _load(path: Path) -> None:
    journal = SqliteJournal(path)
    assert [RECORD] == list(await journal.load())
    await journal.close()
