"""The journal's file: files of older versions are read, those of newer ones are not changed."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.errors import JournalUnusable
from worker.core.model.client_id import ClientId
from worker.core.model.ending import (
    Cause,
    Channel,
    End,
    Exited,
)
from worker.core.model.job import (
    JobId,
    JobRecord,
    JobSpec,
    PastRequest,
    new_job_id,
    parse_job_id,
)
from worker.linux.journal.schema import VERSION
from worker.linux.journal.sqlite import SqliteJournal, unreadable_records

ALICE = ClientId("alice", "CN=1")
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


VERSION_2 = f"""
{VERSION_1}
CREATE TABLE requests (
    owner TEXT NOT NULL,
    request_id TEXT NOT NULL,
    job TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    removed_at REAL NOT NULL,
    PRIMARY KEY (owner, request_id)
) WITHOUT ROWID;
CREATE INDEX requests_by_removal ON requests (removed_at);
PRAGMA user_version = 2;
"""


def write(path: Path, script: str) -> None:
    """Create a database as another version would."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(script)


def version(path: Path) -> int:
    """Return the version of a database."""
    with closing(sqlite3.connect(path)) as database:
        (number,) = database.execute("PRAGMA user_version").fetchone()
    assert isinstance(number, int)
    return number


async def test_a_journal_of_version_1(tmp_path: Path) -> None:
    """It is migrated: its jobs are known, and requests can be recorded."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1)
    past = PastRequest("alice", "r1", JOB, "f", 4.5)

    for records in ([RECORD], []):
        journal = SqliteJournal(path)
        assert records == list(await journal.load())
        await journal.remove(JOB, past)
        assert past == await journal.past_request(ALICE, "r1")
        await journal.close()
    assert VERSION == version(path)


async def test_a_journal_of_version_2(tmp_path: Path) -> None:
    """Each request is kept, for every client of its name; those that are added are for one client."""
    path = tmp_path / "journal.db"
    write(path, VERSION_2)
    others = [new_job_id() for _ in range(1000)]
    with closing(sqlite3.connect(path)) as database, database:
        rows = [("bob", f"r{number}", str(job), "f", 5.0) for number, job in enumerate(others)]
        database.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?)", rows)

    for issuer in ("CN=1", "CN=2"):
        journal = SqliteJournal(path)
        assert [RECORD] == list(await journal.load())
        for number, job in enumerate(others):
            past = PastRequest("bob", f"r{number}", job, "f", 5.0)
            assert past == await journal.past_request(ClientId("bob", issuer), past.request_id)
        await journal.close()
    journal = SqliteJournal(path)
    own = PastRequest("alice", "r9", JOB, "f", 6.0, "CN=1")
    await journal.remove(JOB, own)
    assert own == await journal.past_request(ALICE, "r9")
    assert await journal.past_request(ClientId("alice", "CN=2"), "r9") is None
    await journal.forget_requests(5.5)
    assert await journal.past_request(ClientId("bob"), "r7") is None
    assert own == await journal.past_request(ALICE, "r9")
    await journal.close()
    assert VERSION == version(path)


async def test_a_migration_that_is_interrupted(tmp_path: Path) -> None:
    """A server that is killed before the commit leaves version 2 with all of its requests."""
    path = tmp_path / "journal.db"
    write(path, VERSION_2 + f"INSERT INTO requests VALUES ('alice', 'r1', '{JOB}', 'f', 4.5);")
    command = (
        "import os, sqlite3, sys; from worker.linux.journal import schema; from pathlib import Path\n"
        "steps = schema._MIGRATIONS[2]\n"
        "schema._MIGRATIONS = (*schema._MIGRATIONS[:2], (*steps[:4], 'SELECT die()'))\n"
        "connect = sqlite3.connect\n"
        "def connected(*arguments, **options):\n"
        "    database = connect(*arguments, **options)\n"
        "    database.create_function('die', 0, lambda: os._exit(9))\n"
        "    return database\n"
        "sqlite3.connect = connected\n"
        "schema.open_database(Path(sys.argv[1]))\n"
    )
    assert 9 == subprocess.run([sys.executable, "-c", command, str(path)], check=False).returncode
    assert 2 == version(path)
    journal = SqliteJournal(path)
    assert [RECORD] == list(await journal.load())
    assert PastRequest("alice", "r1", JOB, "f", 4.5) == await journal.past_request(ALICE, "r1")
    await journal.close()
    assert VERSION == version(path)


async def test_a_name_survives_and_none_is_needed(tmp_path: Path) -> None:
    """A record with a name beside one of a version without names: the same database has both."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1)
    named = replace(RECORD, id=new_job_id(), spec=replace(RECORD.spec, name="build"), created_at=2.5)
    journal = SqliteJournal(path)
    await journal.load()
    await journal.put(named)
    await journal.close()
    with closing(sqlite3.connect(path)) as database:
        texts = [text for (text,) in database.execute("SELECT record FROM jobs ORDER BY created_at")]
    assert [False, True] == ['"name": "build"' in text for text in texts]
    await _load(path, [RECORD, named])


async def test_a_journal_of_a_later_version(tmp_path: Path) -> None:
    """It is rejected with its format, and not changed."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1 + f"PRAGMA user_version = {VERSION + 1};")

    journal = SqliteJournal(path)
    reason = rf"journal\.db: written by a newer version.*format {VERSION + 1}.*move"
    with pytest.raises(JournalUnusable, match=reason):
        await journal.load()
    await journal.close()
    with pytest.raises(JournalUnusable, match="start that version"):
        unreadable_records(path)
    assert VERSION + 1 == version(path)


async def test_a_migration_that_fails(tmp_path: Path) -> None:
    """A step is done completely or not at all: an existing index stops it, and the file is unchanged."""
    path = tmp_path / "journal.db"
    write(path, VERSION_1 + "CREATE INDEX requests_by_removal ON jobs (created_at);")

    journal = SqliteJournal(path)
    with pytest.raises(JournalUnusable, match="requests_by_removal already exists"):
        await journal.load()
    await journal.close()
    assert 1 == version(path)
    write(path, "DROP INDEX requests_by_removal; SELECT 1;")
    await _load(path, [RECORD])
    assert VERSION == version(path)


async def _load(path: Path, expected: list[JobRecord]) -> None:
    """Check what a server loads from a journal."""
    journal = SqliteJournal(path)
    try:
        assert expected == list(await journal.load())
    finally:
        await journal.close()


# --- damaged journals


async def whole(path: Path, jobs: int = 1) -> bytes:
    """Create a journal as a server leaves it, and return its bytes."""
    journal = SqliteJournal(path)
    for _ in range(jobs):
        await journal.put(replace(RECORD, id=new_job_id()))
    await journal.close()
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
async def test_a_corrupt_journal_is_not_changed(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """It is rejected with the reason and the remedy, and no byte of it is changed."""
    path = tmp_path / "journal.db"
    spoiled = spoil(await whole(path, jobs=50))
    path.write_bytes(spoiled)

    journal = SqliteJournal(path)
    for step in (journal.load(), journal.put(RECORD)):
        with pytest.raises(JournalUnusable, match=r"journal\.db is corrupt .*restore.*move it away"):
            await step
    await journal.close()
    with pytest.raises(JournalUnusable, match="is corrupt"):
        unreadable_records(path)
    assert spoiled == path.read_bytes()


async def test_an_empty_file_is_a_journal_only_where_there_are_no_jobs(tmp_path: Path) -> None:
    """The first server may be killed at that moment; later, an empty file means lost data."""
    path = tmp_path / "journal.db"
    path.touch()
    await _load(path, [])
    path.write_bytes(b"")
    (tmp_path / "jobs" / str(JOB)).mkdir(parents=True)
    with pytest.raises(JournalUnusable, match="it is empty although there are jobs"):
        await _load(path, [])
    assert b"" == path.read_bytes()


@pytest.mark.parametrize("record", ["'nonsense'", "'{}'", "'5'", "5", "NULLIF('', 'x')", "x'ff00ff'"])
async def test_a_row_that_cannot_be_read(tmp_path: Path, record: str) -> None:
    """The row is ignored and kept; the other jobs are known, and the job of the row is reported."""
    path = tmp_path / "journal.db"
    bad = new_job_id()
    write(path, VERSION_1 + f"INSERT INTO jobs VALUES ('{bad}', 1.0, CAST({record} AS TEXT));")

    for _ in range(2):
        journal = SqliteJournal(path)
        assert [RECORD] == list(await journal.load())
        assert [bad] == list(journal.unreadable)
        await journal.close()
    assert [str(bad)] == list(unreadable_records(path))


async def test_reading_for_the_doctor_changes_nothing(tmp_path: Path) -> None:
    """Neither a journal that is not in use nor one that is being written."""
    path = tmp_path / "journal.db"
    data = await whole(path)
    assert {} == unreadable_records(path)
    assert (data, [path]) == (path.read_bytes(), list(tmp_path.iterdir()))
    journal = SqliteJournal(path)
    await journal.put(RECORD)
    before = os.listdir(tmp_path)
    assert {} == unreadable_records(path)
    assert before == os.listdir(tmp_path)
    await journal.close()


async def test_a_journal_that_is_moved_while_a_server_uses_it(tmp_path: Path) -> None:
    """Writes fail instead of being lost; when it is back the server continues, and nothing is lost."""
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


# --- writes that are committed together


async def test_concurrent_writes(tmp_path: Path) -> None:
    """Each is durable when it returns, in the order of the requests, as another connection sees it."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    jobs = [new_job_id() for _ in range(50)]
    unended = replace(RECORD, end=None)

    async def run(job: JobId) -> None:
        await journal.put(replace(unended, id=job))
        assert job in ids(path)
        await journal.put(replace(RECORD, id=job))
        if job is jobs[0]:
            await journal.remove(job, PastRequest("alice", "r", job, "f", 1.0))
            assert job not in ids(path)

    await asyncio.gather(*map(run, jobs))
    assert set(jobs[1:]) == ids(path)
    assert all(END == record.end for record in await journal.load())
    await journal.close()


def ids(path: Path) -> set[JobId]:
    """Return the jobs in a database."""
    with closing(sqlite3.connect(path)) as database:
        return {parse_job_id(text) for (text,) in database.execute("SELECT id FROM jobs")}


async def test_a_write_that_fails_among_others(tmp_path: Path) -> None:
    """Only the one that SQLite refuses fails."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    await journal.put(RECORD)
    refused = new_job_id()
    write(
        path,
        f"CREATE TRIGGER refuse BEFORE INSERT ON jobs WHEN NEW.id = '{refused}' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END;",
    )
    jobs = [new_job_id(), refused, new_job_id()]
    puts = [journal.put(replace(RECORD, id=job)) for job in jobs]
    first, failed, last = await asyncio.gather(*puts, return_exceptions=True)
    assert (None, None) == (first, last)
    assert isinstance(failed, JournalUnusable)
    assert {JOB, jobs[0], jobs[2]} == ids(path)
    await journal.close()


async def test_a_write_whose_caller_is_cancelled(tmp_path: Path) -> None:
    """It is committed nevertheless, also if the journal is closed at once."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    put = asyncio.ensure_future(journal.put(RECORD))
    await asyncio.sleep(0)
    put.cancel()
    await journal.close()
    assert {JOB} == ids(path)


async def test_the_log_does_not_grow_without_bounds(tmp_path: Path) -> None:
    """Checkpoints empty the write-ahead log, after commits of the event loop and of the thread."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    sizes = []
    for _ in range(4):
        for _ in range(300):
            await journal.put(RECORD)
        sizes.append(Path(f"{path}-wal").stat().st_size)
    assert sizes[-1] == sizes[1]
    await journal.close()


async def test_writes_beside_reads(tmp_path: Path) -> None:
    """Reads run in the thread; writes that are requested meanwhile are neither lost nor reordered."""
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    await journal.put(RECORD)
    jobs = [new_job_id() for _ in range(20)]
    for job in jobs:
        _, past = await asyncio.gather(
            journal.put(replace(RECORD, id=job)), journal.past_request(ALICE, str(job))
        )
        assert past is None
        await asyncio.gather(
            journal.load(), journal.remove(job, PastRequest("alice", str(job), job, "f", 1.0))
        )
        assert await journal.past_request(ALICE, str(job)) is not None
    assert {JOB} == ids(path)
    await journal.close()


async def test_another_process_has_locked_the_file(tmp_path: Path) -> None:
    """A write waits for it, and the event loop serves others meanwhile."""
    journal = SqliteJournal(tmp_path / "journal.db")
    await journal.put(RECORD)
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = [asyncio.create_task(journal.put(replace(RECORD, id=new_job_id()))) for _ in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(write.done() for write in writes)
        other.execute("ROLLBACK")
    await asyncio.gather(*writes)
    assert 4 == len(await journal.load())
    await journal.close()
