"""The notification protocol of systemd, both ends: sd_notify(3).

A server tells systemd, or the `worker up` that started it, that it is ready.
"""

import os
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self

ADDRESS_VARIABLE = "X_WORKER_ADDRESS"
"""The variable that tells the address; sd_notify(3) leaves names with X_ to us."""

_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid


class Notifier:
    """Tells whoever started us how far we are; nobody, where there is no NOTIFY_SOCKET."""

    def __init__(self) -> None:
        # Taken out of the environment: processes that we start have nothing to tell.
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def tell(self, **variables: str) -> None:
        """Send assignments, as READY="1"."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in variables.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(message.encode(), self._address)
            except (ConnectionRefusedError, FileNotFoundError):
                return  # a `worker up` that was interrupted listens no more


class NotifyListener:
    """The other end: gives a NOTIFY_SOCKET to a child and hears it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # The kernel chooses an unused abstract name (unix(7), autobind): nothing to delete, never too long.
        self._socket.bind("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """What NOTIFY_SOCKET is to be."""
        name: bytes = self._socket.getsockname()
        return "@" + name[1:].decode("ascii")

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def receive(self, sender: int) -> Mapping[str, str]:
        """Return the next message's assignments; empty if it is not from process ``sender``."""
        data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_UCRED.size))
        pids = [
            _UCRED.unpack(content)[0]
            for level, kind, content in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        ]
        if pids != [sender]:
            return {}
        lines = data.decode(errors="replace").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
