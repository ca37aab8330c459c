"""The audit log in a file, on stdout and in journald."""

import asyncio
import os
import pty
import resource
import socket
import stat
import struct
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.audit.record import AuditRecord, Event, line
from worker.core.testing import AuditLogBench, AuditLogContract
from worker.core.testing.audit_log_contract import parsed
from worker.linux.audit.file import AuditFile
from worker.linux.audit.journald import Journald, entry
from worker.linux.audit.stream import AuditStream

Check = Callable[[], Coroutine[None, None, None]]


def name(check: Check) -> str:
    """Return the name of a check."""
    return check.__name__


def record(number: int, **fields: Any) -> AuditRecord:
    """Return a record that can be told from others."""
    return {"event": Event.OUTCOME, "id": str(number), **fields}  # type: ignore[typeddict-item]


def write(log: AuditFile | AuditStream | Journald, *records: AuditRecord) -> None:
    """Write records."""
    for each in records:
        log.write(each, line(each))


def ids(directory: Path) -> dict[str, list[str]]:
    """Return the ids of the records in each file."""
    return {each.name: [found["id"] for found in parsed(each.read_bytes())] for each in directory.iterdir()}


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Let writes beyond this size of a file fail, as on a full disk; the last one that fits is partial."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def in_a_file() -> Iterator[AuditLogBench]:
    """Yield an empty file; it fails in the middle of a line."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "audit.log")
        log = AuditFile(path)

        async def read() -> list[AuditRecord]:
            return parsed(path.read_bytes())

        yield AuditLogBench(log, read, lambda: limited_file_size(path.stat().st_size + 10))
        log.close()


@contextmanager
def on_stdout(reading: int, writing: int) -> Iterator[AuditLogBench]:
    """Yield a log that writes to a descriptor; it fails while nobody reads."""
    log = AuditStream(writing, most_waiting=0)
    os.set_blocking(reading, False)
    text = b""

    async def read() -> list[AuditRecord]:
        nonlocal text
        for _ in range(1000):
            try:
                text += os.read(reading, 1 << 20)
            except BlockingIOError:
                if text.endswith(b"\n"):
                    break
            await asyncio.sleep(0)  # the rest of a large record is sent by the event loop
        return parsed(text)

    @contextmanager
    def failing() -> Iterator[None]:
        nonlocal text
        text += os.read(reading, 1 << 20)
        full = 0
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                full += os.write(writing, b"x")
        yield
        while full:
            full -= len(os.read(reading, full))

    yield AuditLogBench(log, read, failing)
    log.close()
    os.close(reading)


@contextmanager
def on_a_pipe() -> Iterator[AuditLogBench]:
    """Yield a log that writes to a pipe, as in a container."""
    reading, writing = os.pipe()
    with on_stdout(reading, writing) as bench:
        yield bench
    os.close(writing)


@contextmanager
def on_a_socket() -> Iterator[AuditLogBench]:
    """Yield a log that writes to a socket, as systemd gives one to a service."""
    one, other = socket.socketpair()
    with on_stdout(one.detach(), other.fileno()) as bench:
        yield bench
    other.close()


class FakeJournald:
    """The socket of journald, and the entries that were sent to it."""

    def __init__(self, directory: str) -> None:
        self.path = Path(directory, "socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)

    def receive(self) -> dict[str, bytes]:
        """Return the fields of the next entry; BlockingIOError if there is none."""
        data, ancillary, _, _ = self.socket.recvmsg(1 << 22, 1024)
        for _, _, content in ancillary:
            (file,) = struct.unpack("i", content)
            # journald accepts only files that the sender cannot change any more.
            with pytest.raises(PermissionError):
                os.write(file, b"x")
            data = os.pread(file, 1 << 24, 0)
            os.close(file)
        return parsed_entry(data)

    def receive_all(self) -> list[dict[str, bytes]]:
        """Return all entries."""
        found = []
        while True:
            try:
                found.append(self.receive())
            except BlockingIOError:
                return found


def parsed_entry(data: bytes) -> dict[str, bytes]:
    """Parse an entry as journald does; each field occurs once."""
    fields: dict[str, bytes] = {}
    while data:
        head, _, data = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", data)
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data.startswith(b"\n")
            data = data[1:]
        assert name.decode("ascii") not in fields
        fields[name.decode("ascii")] = value
    return fields


@contextmanager
def in_journald() -> Iterator[AuditLogBench]:
    """Yield a log that sends to journald; it fails while the queue of the socket is full."""
    with TemporaryDirectory() as directory:
        journald = FakeJournald(directory)
        log = Journald(journald.path, most_waiting=0)
        messages: list[bytes] = []

        def receive() -> None:
            messages.extend(each["MESSAGE"] + b"\n" for each in journald.receive_all())

        async def read() -> list[AuditRecord]:
            receive()
            return parsed(b"".join(messages))

        @contextmanager
        def failing() -> Iterator[None]:
            receive()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.connect(str(journald.path))
                with suppress(BlockingIOError):
                    while True:
                        other.send(b"MESSAGE=x\n")
            yield
            assert {b"x"} == {each["MESSAGE"] for each in journald.receive_all()}

        yield AuditLogBench(log, read, failing)
        log.close()
        journald.socket.close()


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
    found = parsed_entry(entry(sent, line(sent)))
    assert {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "WORKER_EVENT"} | {
        f"WORKER_{each.upper()}" for each in fields
    } == found.keys()
    for each, value in fields.items():
        assert value.encode(errors="backslashreplace") == found[f"WORKER_{each.upper()}"]
