"""Half-closed connections: the server releases them, and streams resume over other connections."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ..support.followed import Followed, Until


class Relay:
    """Relays data between clients and the server; clients connect to ``port``."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[dict[str, socket.socket]] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def close_half(self, of: str) -> None:
        """Shut down the sending half of the client, or of the server, on the first connection."""
        other = {"client": "server", "server": "client"}[of]
        self._pairs[0][other].shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        ends = [self._listener, *(end for pair in self._pairs for end in pair.values())]
        for end in ends:
            with suppress(OSError):  # no longer connected
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._pairs.append({"client": client, "server": server})
                for ends in ((client, server), (server, client)):
                    self._threads.append(Thread(target=_relay, args=ends))
                    self._threads[-1].start()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(installation: Any) -> Iterator[Relay]:
    """A relay between clients and the server."""
    relay = Relay(int((installation.home / "address").read_text().rpartition(":")[2]))
    yield relay
    relay.close()


def sockets(installation: Any) -> int:
    """Return the number of the server's sockets, connected or not."""
    descriptors = Path(f"/proc/{installation.server_pid()}/fd").iterdir()
    return sum(str(path.readlink()).startswith("socket:") for path in descriptors)


@pytest.mark.parametrize("half", ["client", "server"])
def test_a_stream_resumes_over_another_connection(
    installation: Any, relay: Relay, tmp_path: Path, until: Until, half: str
) -> None:
    """No byte is lost or repeated, and the server closes the first connection."""
    followed = Followed(installation, tmp_path, until)
    with followed.by(installation.command, "--server", f"127.0.0.1:{relay.port}") as client:
        before = sockets(installation)
        relay.close_half(half)
        assert client.stderr.readline().endswith(b"trying again for 60 s\n")
        assert b"worker: the server is back\n" == client.stderr.readline()
        until(lambda: sockets(installation) <= before)
        followed.await_more()
        assert [] == followed.end(client)
