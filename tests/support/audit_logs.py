"""Audit logs in a file, on stdout and in journald, and what was written to them."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from worker.core.audit.record import AuditRecord, Event, line
from worker.core.testing import AuditLogBench
from worker.core.testing.audit_log_contract import parsed
from worker.linux.audit.file import AuditFile
from worker.linux.audit.journald import Journald
from worker.linux.audit.stream import AuditStream


def record(number: int, **fields: Any) -> AuditRecord:
    """Return a record that can be told from others."""
    return {"event": Event.OUTCOME, "id": str(number), **fields}  # type: ignore[typeddict-item]


def write(log: AuditFile | AuditStream | Journald, *records: AuditRecord) -> None:
    """Write records."""
    for each in records:
        log.write(line(each))


def ids(directory: Path, files: str = "*") -> dict[str, list[str]]:
    """Return the ids of the records in each of the files, whose names match the pattern."""
    return {
        each.name: [found["id"] for found in parsed(each.read_bytes())] for each in directory.glob(files)
    }


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
