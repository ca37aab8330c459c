"""The audit log in journald, with a field for each field of a record.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

import array
import fcntl
import json
import os
import socket
import struct
from errno import ECONNREFUSED, EMSGSIZE, ENOBUFS, ENOTCONN
from pathlib import Path

from .backlog import MOST_WAITING, Backlog

SOCKET = Path("/run/systemd/journal/socket")

IDENTIFIER = "worker-audit"
"""SYSLOG_IDENTIFIER of each entry, for `journalctl -t`."""

_PREFIX = "WORKER_"
_NOTICE = "5"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journald:
    """Sends records to journald. MESSAGE is the line of JSON, WORKER_EVENT and so on are the fields.

    Raises OSError if journald does not run.
    """

    def __init__(self, path: Path = SOCKET, *, most_waiting: int = MOST_WAITING) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, error.strerror, self._path) from None
        self._backlog = Backlog(self._socket.fileno(), self._send, most=most_waiting)

    def write(self, line: bytes) -> None:
        self._backlog.put(entry(line))

    def reopen(self) -> None:
        self._socket.connect(self._path)

    def close(self) -> None:
        self._backlog.close()
        self._socket.close()

    def _send(self, data: bytes) -> int:
        try:
            self._send_entry(data)
        except OSError as error:
            if error.errno not in {ECONNREFUSED, ENOTCONN}:
                raise
            # journald was started again, and has another socket
            self._socket.connect(self._path)
            self._send_entry(data)
        return len(data)

    def _send_entry(self, data: bytes) -> None:
        try:
            self._socket.send(data, socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in {EMSGSIZE, ENOBUFS}:
                raise
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        """Send what is too large for a datagram as a sealed file in memory."""
        file = os.memfd_create(IDENTIFIER, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(file, left) :]
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            self._socket.sendmsg([], [rights], socket.MSG_NOSIGNAL)
        finally:
            os.close(file)


def entry(line: bytes) -> bytes:
    """Return an entry of the native protocol. Values with a newline have a length, so none ends a field."""
    fields = {
        "MESSAGE": line[:-1].decode("ascii"),
        "PRIORITY": _NOTICE,
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **{_PREFIX + name.upper(): _value(value) for name, value in json.loads(line).items()},
    }
    return b"".join(_field(name.encode("ascii"), value) for name, value in fields.items())


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _field(name: bytes, value: str) -> bytes:
    data = value.encode()
    if b"\n" not in data:
        return name + b"=" + data + b"\n"
    return name + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
