"""The journal's file: what older versions wrote is read, what newer ones wrote is left alone."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.errors import JournalUnusable
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Exited,
)
from worker.core.model.job import (
    JobRecord,
    JobSpec,
    PastRequest,
    new_job_id,
    parse_job_id,
)
from worker.linux.journal.sqlite import SqliteJournal, look

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
        with pytest.raises(
            JournalUnusable, match=r"journal\.db: written by a newer version.*format 3.*move"
        ):
            await journal.load()
        await journal.close()
        with pytest.raises(JournalUnusable, match="start that version"):
            look(path)

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


# --- journals that are broken


def whole(path: Path, jobs: int = 1) -> bytes:
    """Make a journal as a server leaves it, and return its bytes."""

    async def scenario() -> None:
        journal = SqliteJournal(path)
        for _ in range(jobs):
            await journal.put(replace(RECORD, id=new_job_id()))
        await journal.close()

    asyncio.run(scenario())
    return path.read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"garbage",
        lambda _: b"\0" * 8192,
        lambda data: data[:10],
        lambda data: data[:50],
        lambda data: data[:512],
        lambda data: data[:4096],
        lambda data: data[: len(data) - 4096],
        lambda data: data[:4096] + b"\xff" * (len(data) - 4096),
    ],
)
def test_a_corrupt_journal_is_left_as_it_is(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """It is refused with what is wrong and what helps, and not one byte of it is changed."""
    path = tmp_path / "journal.db"
    spoiled = spoil(whole(path, jobs=50))
    path.write_bytes(spoiled)

    async def scenario() -> None:
        journal = SqliteJournal(path)
        for step in (journal.load(), journal.put(RECORD)):
            with pytest.raises(JournalUnusable, match=r"journal\.db is corrupt .*restore.*move it away"):
                await step
        await journal.close()
        with pytest.raises(JournalUnusable, match="is corrupt"):
            look(path)

    asyncio.run(scenario())
    assert spoiled == path.read_bytes()


def test_an_empty_file_is_a_journal_only_where_there_are_no_jobs(tmp_path: Path) -> None:
    """A first server may have died so early; later, it is one that somebody has emptied."""
    path = tmp_path / "journal.db"
    path.touch()

    async def load() -> None:
        journal = SqliteJournal(path)
        try:
            assert [] == list(await journal.load())
        finally:
            await journal.close()

    asyncio.run(load())
    path.write_bytes(b"")
    (tmp_path / "jobs" / str(JOB)).mkdir(parents=True)
    with pytest.raises(JournalUnusable, match="it is empty, and yet there are jobs"):
        asyncio.run(load())
    assert b"" == path.read_bytes()


@pytest.mark.parametrize("record", ["'nonsense'", "'{}'", "'5'", "5", "NULLIF('', 'x')", "x'ff00ff'"])
def test_a_row_that_cannot_be_read(tmp_path: Path, record: str) -> None:
    """It is set aside and stays; the others are known, and it is told which job it was."""
    path = tmp_path / "journal.db"
    bad = new_job_id()
    write(path, VERSION_1 + f"INSERT INTO jobs VALUES ('{bad}', 1.0, CAST({record} AS TEXT));")

    async def scenario() -> None:
        for _ in range(2):
            journal = SqliteJournal(path)
            assert [RECORD] == list(await journal.load())
            assert [bad] == list(journal.unreadable)
            await journal.close()

    asyncio.run(scenario())
    assert [str(bad)] == list(look(path))


async def test_a_look_leaves_no_trace(tmp_path: Path) -> None:
    """Neither at a journal that nobody uses nor at one that is being written."""
    path = tmp_path / "journal.db"
    data = await asyncio.to_thread(whole, path)
    assert {} == look(path)
    assert (data, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))
    journal = SqliteJournal(path)
    await journal.put(RECORD)
    before = os.listdir(tmp_path)
    assert {} == look(path)
    assert before == os.listdir(tmp_path)
    await journal.close()


async def test_a_journal_that_is_moved_away_under_a_server(tmp_path: Path) -> None:
    """Nothing is written where nobody would find it; when it is back all goes on, and nothing is lost."""
    path, elsewhere = tmp_path / "journal.db", tmp_path / "elsewhere.db"
    journal = SqliteJournal(path)
    await journal.put(RECORD)
    path.rename(elsewhere)
    with pytest.raises(JournalUnusable, match="put it back, or restart the server"):
        await journal.put(replace(RECORD, id=new_job_id()))
    path.touch()
    with pytest.raises(JournalUnusable, match="moved, deleted or replaced"):
        await journal.load()
    elsewhere.rename(path)
    assert [RECORD] == list(await journal.load())
    await journal.close()
