"""The audit log on stdout and in journald: slow readers, readers that have gone, and fields."""

import asyncio
import os
import pty
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.audit.record import AuditRecord, Event, line
from worker.core.testing.audit_log_contract import parsed
from worker.linux.audit.journald import Journald, entry
from worker.linux.audit.stream import AuditStream

from ..support.audit_logs import (
    FakeJournald,
    limited_file_size,
    parsed_entry,
    record,
    write,
)


async def test_a_slow_reader_loses_nothing() -> None:
    """Records wait for a reader of stdout that is slow, and are sent by the event loop."""
    reading, writing = os.pipe()
    log = AuditStream(writing)
    records = [
        record(number, message="x" * 1000) for number in range(1000)
    ]  # sixteen times what a pipe holds
    write(log, *records)
    os.close(writing)
    os.set_blocking(reading, False)
    text = b""
    while text.count(b"\n") < len(records):
        with suppress(BlockingIOError):  # the event loop has not sent the next ones yet
            text += os.read(reading, 65536)
        await asyncio.sleep(0)
    assert records == parsed(text)
    log.close()
    os.close(reading)


async def test_a_reader_that_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    """What waited is reported as lost, and the next record fails."""
    reading, writing = os.pipe()
    log = AuditStream(writing)
    write(log, *(record(number, message="x" * 1000) for number in range(100)))
    os.close(reading)
    while not caplog.records:
        await asyncio.sleep(0)
    assert "records of the audit log are lost: [Errno 32] Broken pipe" in caplog.text
    with pytest.raises(BrokenPipeError):
        write(log, record(1))
    log.close()
    os.close(writing)


async def test_closing_waits_for_a_slow_reader() -> None:
    """What waits when the server ends is still sent if the reader takes it."""
    reading, writing = os.pipe()
    log = AuditStream(writing)
    records = [record(number, message="x" * 1000) for number in range(200)]
    write(log, *records)
    os.close(writing)

    def read() -> bytes:
        with os.fdopen(reading, "rb") as file:
            return file.read()

    reader = asyncio.get_running_loop().run_in_executor(None, read)
    log.close()
    assert records == parsed(await reader)


def test_a_stdout_that_is_a_terminal() -> None:
    """Its description keeps its flags: the shell uses it too."""
    control, terminal = pty.openpty()
    log = AuditStream(terminal)
    write(log, record(1))
    assert os.get_blocking(terminal)
    assert parsed(os.read(control, 1000).replace(b"\r\n", b"\n")) == [record(1)]
    log.close()
    os.close(control)
    os.close(terminal)


def test_a_stdout_that_is_a_file_on_a_full_disk(tmp_path: Path) -> None:
    """A line that was cut stands alone, and the next one is whole."""
    with (tmp_path / "out").open("wb", buffering=0) as file:
        log = AuditStream(file.fileno())
        with limited_file_size(10), pytest.raises(OSError, match="File too large"):
            write(log, record(1))
        write(log, record(2))
        log.close()
    assert [line(record(1))[:10] + b"\n", line(record(2))] == (tmp_path / "out").read_bytes().splitlines(
        keepends=True
    )


def test_fields_of_journald(tmp_path: Path) -> None:
    """An entry has the line of JSON as its message, and a field for each field of the record."""
    journald = FakeJournald(str(tmp_path))
    log = Journald(journald.path)
    sent = record(7, identity="alice", command=["ls", "-l"], allowed=True)
    write(log, sent)
    assert {
        "MESSAGE": line(sent).strip(),
        "PRIORITY": b"5",
        "SYSLOG_IDENTIFIER": b"worker-audit",
        "WORKER_EVENT": b"outcome",
        "WORKER_ID": b"7",
        "WORKER_IDENTITY": b"alice",
        "WORKER_COMMAND": b'["ls", "-l"]',
        "WORKER_ALLOWED": b"true",
    } == journald.receive()
    log.close()
    journald.socket.close()


async def test_journald_that_was_started_again(tmp_path: Path) -> None:
    """Entries go to the new socket."""
    journald = FakeJournald(str(tmp_path))
    log = Journald(journald.path)
    write(log, record(1))
    journald.socket.close()
    journald.path.unlink()
    with pytest.raises(OSError, match="No such file"):
        write(log, record(2))
    journald = FakeJournald(str(tmp_path))
    write(log, record(3))
    assert b"3" == journald.receive()["WORKER_ID"]
    log.close()
    journald.socket.close()


def test_no_journald(tmp_path: Path) -> None:
    """It is an error at the start, which names the socket."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        Journald(tmp_path / "socket")


@given(st.dictionaries(st.sampled_from(["identity", "user", "message"]), st.text(), min_size=1))
def test_values_forge_no_field_of_journald(fields: dict[str, str]) -> None:
    """No text ends its field or begins another one; a lone surrogate is escaped."""
    sent: AuditRecord = {"event": Event.OUTCOME, **fields}  # type: ignore[typeddict-item]
    found = parsed_entry(entry(line(sent)))
    assert {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "WORKER_EVENT"} | {
        f"WORKER_{each.upper()}" for each in fields
    } == found.keys()
    for each, value in fields.items():
        assert value.encode(errors="backslashreplace") == found[f"WORKER_{each.upper()}"]
