"""The audit log in a file, on stdout and in journald."""

import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from worker.core.audit.record import line
from worker.core.testing import AuditLogContract
from worker.core.testing.audit_log_contract import parsed
from worker.linux.audit.file import AuditFile

from ..support.audit_logs import ids, in_a_file, in_journald, on_a_pipe, on_a_socket, record, write

Check = Callable[[], Coroutine[None, None, None]]


def name(check: Check) -> str:
    """Return the name of a check."""
    return check.__name__


@pytest.mark.parametrize("check", AuditLogContract(in_a_file).checks(), ids=name)
async def test_file(check: Check) -> None:
    """AuditFile fulfils the contract of AuditLog."""
    await check()


@pytest.mark.parametrize("check", AuditLogContract(on_a_pipe).checks(), ids=name)
async def test_pipe(check: Check) -> None:
    """AuditStream fulfils the contract of AuditLog when it writes to a pipe."""
    await check()


@pytest.mark.parametrize("check", AuditLogContract(on_a_socket).checks(), ids=name)
async def test_socket(check: Check) -> None:
    """AuditStream fulfils the contract of AuditLog when it writes to a socket."""
    await check()


@pytest.mark.parametrize("check", AuditLogContract(in_journald).checks(), ids=name)
async def test_journald(check: Check) -> None:
    """Journald fulfils the contract of AuditLog."""
    await check()


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    """New files have mode 0600 whatever the umask is, after a rotation too."""
    before = os.umask(0)
    try:
        log = AuditFile(tmp_path / "audit.log", size=100, keep=2)
        write(log, *map(record, range(10)))
        log.close()
    finally:
        os.umask(before)
    assert {0o600} == {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert {"audit.log", "audit.log.1", "audit.log.2"} == {each.name for each in tmp_path.iterdir()}


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    """Each record is in one of the files, whole and in order; no file is larger than it may be."""
    log = AuditFile(tmp_path / "audit.log", size=500, keep=1000)
    records = [record(number, message="x" * (number % 300)) for number in range(1000)]
    write(log, *records)
    log.close()
    files = sorted(
        tmp_path.iterdir(), key=lambda each: -int(each.suffix[1:]) if each.suffix != ".log" else 1
    )
    assert records == [each for file in files for each in parsed(file.read_bytes())]
    assert 500 >= max(file.stat().st_size for file in files)


def test_a_record_that_is_larger_than_a_file(tmp_path: Path) -> None:
    """It has a file of its own."""
    log = AuditFile(tmp_path / "audit.log", size=100, keep=3)
    write(log, record(1), record(2, message="x" * 200), record(3))
    log.close()
    assert {"audit.log": ["3"], "audit.log.1": ["2"], "audit.log.2": ["1"]} == ids(tmp_path)


def test_the_oldest_file_is_removed(tmp_path: Path) -> None:
    """As many old files are kept as the setting says."""
    log = AuditFile(tmp_path / "audit.log", size=1, keep=2)
    write(log, *map(record, range(5)))
    log.close()
    assert {"audit.log": ["4"], "audit.log.1": ["3"], "audit.log.2": ["2"]} == ids(tmp_path)


def test_a_rotation_that_is_impossible(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file grows, nothing is lost, the log says it once, and a later rotation works."""
    log = AuditFile(tmp_path / "audit.log", size=50, keep=1)
    write(log, record(1))
    obstacle = tmp_path / "audit.log.new"
    (obstacle / "x").mkdir(parents=True)
    write(log, record(2), record(3))
    assert ["1", "2", "3"] == [each["id"] for each in parsed((tmp_path / "audit.log").read_bytes())]
    assert 1 == sum("cannot rotate the audit log" in each.message for each in caplog.records)
    (obstacle / "x").rmdir()
    obstacle.rmdir()
    write(log, record(4))
    log.close()
    assert {"audit.log": ["4"], "audit.log.1": ["1", "2", "3"]} == ids(tmp_path)


def test_an_interrupted_rotation(tmp_path: Path) -> None:
    """A file that a killed server had begun does not stop the next rotation."""
    (tmp_path / "audit.log.new").write_text("")
    log = AuditFile(tmp_path / "audit.log", size=1, keep=1)
    write(log, record(1), record(2))
    log.close()
    assert {"audit.log", "audit.log.1"} == {each.name for each in tmp_path.iterdir()}


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    """Records go to the moved file until the log is reopened, as logrotate(8) expects."""
    path = tmp_path / "audit.log"
    log = AuditFile(path)
    write(log, record(1))
    path.rename(tmp_path / "moved")
    write(log, record(2))
    log.reopen()
    write(log, record(3))
    log.close()
    assert {"moved": ["1", "2"], "audit.log": ["3"]} == ids(tmp_path)


def test_a_file_that_was_moved_away_is_not_rotated(tmp_path: Path) -> None:
    """At the next rotation the log begins a file of its name, and moves no other one."""
    path = tmp_path / "audit.log"
    log = AuditFile(path, size=50, keep=2)
    write(log, record(1))
    path.rename(tmp_path / "moved")
    write(log, record(2), record(3))
    log.close()
    assert {"moved": ["1"], "audit.log.1": ["2"], "audit.log": ["3"]} == ids(tmp_path)


def test_a_deleted_file(tmp_path: Path) -> None:
    """The log begins another one: what is written to a deleted file cannot be read."""
    path = tmp_path / "audit.log"
    log = AuditFile(path)
    write(log, record(1))
    path.unlink()
    write(log, record(2))
    log.close()
    assert {"audit.log": ["2"]} == ids(tmp_path)


def test_a_truncated_file(tmp_path: Path) -> None:
    """Records continue at its end, as with `copytruncate` of logrotate(8)."""
    path = tmp_path / "audit.log"
    log = AuditFile(path)
    write(log, record(1), record(2))
    os.truncate(path, 0)
    write(log, record(3))
    log.close()
    assert {"audit.log": ["3"]} == ids(tmp_path)


def test_a_last_line_that_was_cut(tmp_path: Path) -> None:
    """After a crash of the machine, the next record has a line of its own."""
    path = tmp_path / "audit.log"
    path.write_bytes(line(record(1)) + b'{"time":"20')
    path.chmod(0o600)
    log = AuditFile(path)
    write(log, record(2))
    log.close()
    assert [line(record(1)), b'{"time":"20\n', line(record(2))] == path.read_bytes().splitlines(
        keepends=True
    )


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "FIFO"])
def test_what_is_no_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    """It is refused at once; the open of a FIFO does not wait."""
    path = tmp_path / "audit.log"
    make(path)
    with pytest.raises(OSError, match=r"audit\.log"):
        AuditFile(path)


def test_a_file_that_others_may_write(tmp_path: Path) -> None:
    """It is refused, with the remedy: its lines could be forged."""
    path = tmp_path / "audit.log"
    path.touch()
    path.chmod(0o620)
    with pytest.raises(OSError, match="others can write to it; run chmod 600"):
        AuditFile(path)


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    """It is an error at the start, not only at the first record."""
    with pytest.raises(FileNotFoundError):
        AuditFile(tmp_path / "no" / "audit.log")
