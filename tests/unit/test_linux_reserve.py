"""The reserve: what it gives back on a full disk, and when it takes the space again."""

import os
from collections.abc import Iterator
from dataclasses import replace
from errno import ENOSPC
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from worker.core.errors import JournalUnusable
from worker.core.model.ending import Cause, Channel, End, Exited
from worker.core.model.job import JobRecord, JobSpec, new_job_id
from worker.linux.audit.file import AuditFile
from worker.linux.journal.sqlite import SqliteJournal
from worker.linux.state.reserve import FOR_AUDIT, FOR_ENDS, FOR_OUTPUT, Reserve
from worker.linux.supervisor.retried_writes import RetriedWrites

from ..support import audit_logs
from ..support.audit_logs import ids
from ..support.mounts import fill, small_file_system

MEBIBYTE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with small_file_system(tmp_path / "disk", 16) as path:
        yield path


def free(disk: Path) -> int:
    """Return the free bytes of a disk."""
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def filled(disk: Path) -> Path:
    """Fill a disk, and return the file that does."""
    filler = fill(disk)
    assert 0 == free(disk)
    return filler


def test_space_is_given_back_in_steps(disk: Path) -> None:
    """A step at a time, for each purpose up to its share; it is taken again when it is free."""
    reserve = Reserve(str(disk))
    assert reserve.resize(4 * MEBIBYTE)
    filler = filled(disk)
    assert [True] * 16 + [False] == [reserve.release(FOR_AUDIT) for _ in range(17)]
    assert MEBIBYTE == free(disk) == reserve.missing()
    assert [True, False, False] == [reserve.release(FOR_OUTPUT) for _ in range(3)]
    assert 2 * MEBIBYTE == free(disk) == reserve.missing()
    assert [True, True, False] == [reserve.release() for _ in range(3)]
    assert 4 * MEBIBYTE == free(disk)
    filled(disk)
    assert not reserve.refill()
    filler.unlink()
    assert reserve.refill()
    assert 0 == reserve.missing()
    assert 12 * MEBIBYTE == free(disk)


def written_until_full(log: AuditFile) -> int:
    """Write records until the disk is full, and return how many are stored."""
    for number in count():
        try:
            audit_logs.write(log, audit_logs.record(number, message="x" * 1000))
        except OSError as error:
            assert ENOSPC == error.errno  # noqa: PT017 - it is the end of the loop
            break
    return number


def test_the_audit_log_has_a_share(disk: Path) -> None:
    """Records are stored on a full disk, up to a quarter of the reserve; the rest is for ends of jobs."""
    reserve = Reserve(str(disk))
    assert reserve.resize(4 * MEBIBYTE)
    path = disk / "audit.log"
    log = AuditFile(path, size=200_000, keep=100, reserve=reserve)
    filler = filled(disk)
    stored = written_until_full(log)
    assert MEBIBYTE == reserve.missing()
    assert stored > 900
    assert reserve.release(FOR_ENDS)
    audit_logs.write(log, audit_logs.record(stored))  # as when there is space again
    log.close()
    filler.unlink()
    assert [str(number) for number in range(stored + 1)] == sorted(
        (each for found in ids(disk, "audit.log*").values() for each in found), key=int
    )


def test_the_reserve_is_not_used_for_another_disk(disk: Path, tmp_path: Path) -> None:
    """It would not help: the record is refused, and the reserve stays whole."""
    reserve = Reserve(str(disk))
    assert reserve.resize(4 * MEBIBYTE)
    with small_file_system(tmp_path / "other", 1) as other:
        log = AuditFile(other / "audit.log", reserve=reserve)
        filled(other)
        with pytest.raises(OSError, match="No space left on device"):
            audit_logs.write(log, audit_logs.record(1, message="x" * 5000))
        log.close()
    assert 0 == reserve.missing()


def test_a_log_that_is_begun_on_a_full_disk(disk: Path) -> None:
    """The first record makes the file."""
    reserve = Reserve(str(disk))
    assert reserve.resize(4 * MEBIBYTE)
    filled(disk)
    log = AuditFile(disk / "audit.log", reserve=reserve)
    audit_logs.write(log, audit_logs.record(1))
    log.close()
    assert {"audit.log": ["1"]} == ids(disk, "audit.log")


def test_output_waits_for_the_reserve(disk: Path) -> None:
    """On a full disk output is written again only when the reserve is whole, or if there is none."""
    reserve = Reserve(str(disk))
    reserve.wanted = True
    assert reserve.allows_output()
    assert reserve.resize(4 * MEBIBYTE)
    filler = filled(disk)
    assert reserve.release()
    reserve.wanted = True
    (disk / "history").write_bytes(b"the end of a job")
    assert not reserve.allows_output()
    filler.unlink()
    assert reserve.allows_output()


def test_the_size_of_a_reserve_can_be_changed(disk: Path) -> None:
    """Also to none; on a disk with less than twice the space none is made."""
    reserve = Reserve(str(disk))
    for size in (4 * MEBIBYTE, 2 * MEBIBYTE, 3 * MEBIBYTE):
        assert reserve.resize(size)
        assert 16 * MEBIBYTE - size == free(disk)
    assert reserve.resize(0)
    assert not reserve.resize(9 * MEBIBYTE)
    assert [] == list(disk.iterdir())


async def test_the_journal_uses_it_for_ends_and_removals(disk: Path) -> None:
    """On a full disk the end and the removal of a job are journaled, but no start."""
    journal = SqliteJournal(disk / "journal.db")
    await journal.load()
    Reserve(str(disk)).resize(2 * MEBIBYTE)
    records = [JobRecord(new_job_id(), JobSpec("true"), "alice", "", 1.0) for _ in range(50)]
    for record in records:
        await journal.put(record)
    filled(disk)
    another = JobRecord(new_job_id(), JobSpec("x" * MEBIBYTE), "alice", "", 1.0)
    with pytest.raises(JournalUnusable, match="database or disk is full"):
        await journal.put(another)
    assert 0 == Reserve(str(disk)).missing()
    end = End(Exited(0), Cause.NONE, 0, {Channel.OUTPUT: 1}, 2.0)
    for record in records:
        await journal.put(replace(record, end=end))
    for record in records[1:]:
        await journal.remove(record.id)
    assert 0 < Reserve(str(disk)).missing()
    await journal.close()
    again = SqliteJournal(disk / "journal.db")
    assert records[0].id in {each.id for each in await again.load() if each.end == end}
    await again.close()


def test_histories_use_it(disk: Path) -> None:
    """A record that the full disk refuses is written at once."""
    Reserve(str(disk)).resize(2 * MEBIBYTE)
    history = (disk / "history").open("wb", buffering=0)
    filled(disk)
    writes = RetriedWrites(Reserve(str(disk)))

    def write(data: bytes) -> None:
        assert history.write(data) == len(data)

    writes.write("job", partial(write, b"the end of a job"))
    assert 0 == writes.pending
    assert b"the end of a job" == (disk / "history").read_bytes()
    history.close()
