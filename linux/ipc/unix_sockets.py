"""Unix sockets: addresses short enough for sockaddr_un, descriptors, and the credentials of the peer."""

import os
import socket
import struct

from .framing import MOST_DESCRIPTORS

_AT_ONCE = 65536
"""Bytes received at once; from 128 KiB on malloc(3) would map and unmap memory for each."""

_INT = struct.calcsize("i")
_ANCILLARY = socket.CMSG_SPACE(MOST_DESCRIPTORS * _INT)

_UCRED = struct.Struct("iII")

StrPath = str | os.PathLike[str]


def socket_address(directory_fd: int, name: str) -> str:
    """Return an address for a socket in an open directory, short enough for the limit of 107 bytes."""
    return f"/proc/self/fd/{directory_fd}/{name}"


def connect(directory: StrPath, name: str, timeout: float | None = None) -> socket.socket:
    """Return a socket connected to the one called ``name`` in a directory; ``timeout`` as in settimeout."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    try:
        connection.connect(socket_address(descriptor, name))
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return bytes and the descriptors sent along, which are not inheritable; no bytes at the end.

    socket.recv_fds takes several times as long, and in Python 3.11 it ignores its flags.
    """
    data, ancillary, _, _ = connection.recvmsg(_AT_ONCE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(body) // _INT  # the kernel may have cut it short
            descriptors += struct.unpack(f"{count}i", body[: count * _INT])
    return data, descriptors


def peer_user(connection: socket.socket) -> int:
    """Return the uid of the peer (SO_PEERCRED in unix(7))."""
    return _peer_credentials(connection)[1]


def peer_process(connection: socket.socket) -> int:
    """Return the pid of the peer; if the peer is a listener, of the process that called listen(2)."""
    return _peer_credentials(connection)[0]


def _peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid: struct ucred."""
    return _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
