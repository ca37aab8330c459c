"""Both ends of the notification protocol of systemd, sd_notify(3).

The server notifies systemd, or the `worker up` that started it, that it is ready.
"""

import os
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Self

ADDRESS_VARIABLE = "X_WORKER_ADDRESS"
"""The variable with the address; sd_notify(3) reserves names with X_ for applications."""

_UCRED = struct.Struct("iII")  # unix(7): pid, uid, gid


class Notifier:
    """Notifies the process that started this one; does nothing without NOTIFY_SOCKET."""

    def __init__(self) -> None:
        # Removed from the environment, so that our child processes do not send notifications.
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, **variables: str) -> None:
        """Send variables, as READY="1"."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in variables.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(message.encode(), self._address)
            except (ConnectionRefusedError, FileNotFoundError):
                return  # the `worker up` that started us was interrupted


class NotifyListener:
    """Receives the notifications of a child process."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # The kernel chooses an unused abstract name (unix(7), autobind): no file to delete, never too long.
        self._socket.bind("")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """The value of NOTIFY_SOCKET for the child."""
        name: bytes = self._socket.getsockname()
        return "@" + name[1:].decode("ascii")

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def receive(self, sender: int) -> Mapping[str, str]:
        """Return the variables of the next message; none if it is not from process ``sender``."""
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
