"""Unix sockets: addresses short enough for sockaddr_un, and the credentials of the peer."""

import os
import socket
import struct

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


def peer_user(connection: socket.socket) -> int:
    """Return the uid of the peer (SO_PEERCRED in unix(7))."""
    return _peer_credentials(connection)[1]


def peer_process(connection: socket.socket) -> int:
    """Return the pid of the peer; if the peer is a listener, of the process that called listen(2)."""
    return _peer_credentials(connection)[0]


def _peer_credentials(connection: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid: struct ucred."""
    return _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
