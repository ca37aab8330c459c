"""A link that fails without FIN or RST: what the server releases, and how streams resume."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.followed import Followed, Until, running
from ..support.links import ADDRESS, Link, link

__all__ = ["link"]

INPUT_SIZE = 200 << 20

IMPATIENT = ("--keepalive-time", "500ms", "--keepalive-timeout", "1s")

# The command with a keepalive that detects within a second that the server has vanished.
IMPATIENT_COMMAND = """
from dataclasses import replace
from worker.api.grpc import channel
channel.KEEPALIVE = replace(channel.KEEPALIVE, _keepalive_time=0.5, _keepalive_timeout=0.5,
                            _http2_min_sent_ping_interval_without_data=0.1)
from worker.cli.main import main
main()
"""


class Distant:
    """A worker in one namespace; ``client`` is the command in the other."""

    def __init__(self, installation: Any, link: Link) -> None:
        self.worker = installation
        self.client = link.at("client", installation.command)
        installation.command = link.at("server", installation.command)
        for keys in ("pki", "ca"):
            shutil.rmtree(installation.home / keys)
        installation.worker("certs", "init", "--key-type", "p256", "--host", ADDRESS)

    def up(self, *options: str) -> None:
        """Start the server."""
        self.worker.worker("up", "--listen", f"{ADDRESS}:0", *options)

    def connections(self) -> int:
        """Return the number of the server's connections, including half-closed ones."""
        port = int((self.worker.home / "address").read_text().rpartition(":")[2])
        table = Path(f"/proc/{self.worker.server_pid()}/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in table]
        return sum(
            local.endswith(f":{port:04X}") and state in {"01", "08"} for _, local, _, state, *_ in rows
        )

    def held(self) -> tuple[int, int]:
        """Return the numbers of the server's sockets and inotify watches."""
        process = Path(f"/proc/{self.worker.server_pid()}")
        sockets = sum(os.readlink(path).startswith("socket:") for path in (process / "fd").iterdir())
        watches = sum(path.read_text().count("inotify wd:") for path in (process / "fdinfo").iterdir())
        return sockets, watches


@pytest.fixture
def distant(link: Link, install: Any, tmp_path: Path) -> Distant:
    """A worker at the other end of the link, not yet up."""
    return Distant(install(tmp_path / "home"), link)


@pytest.mark.parametrize("output", ["echo here", "yes | head -c 50000000"])
def test_a_client_that_vanishes_is_detected_and_released(
    distant: Distant, link: Link, until: Until, output: str
) -> None:
    """The server releases its slot, connection and watch, whether it had much to send or nothing."""
    distant.up("--max-streams-per-client", "1", *IMPATIENT)
    other = distant.worker.start("echo", "other")
    job = distant.worker.start("sh", "-c", f"{output}; exec sleep 1000")
    distant.worker.wait(other)
    until(lambda: distant.connections() == 0)
    before = distant.held()
    with running([*distant.client, "stream", job], distant.worker.env, subprocess.PIPE) as client:
        assert client.stdout.readline()
        refused = distant.worker.run("stream", other)
        assert b"worker: 'writer' has 1 streams open" in refused.stderr
        link.drop("client")
        client.kill()
    until(lambda: distant.worker.run("stream", other).stdout == b"other\n")
    until(lambda: distant.held() == before)


@pytest.fixture
def follow(distant: Distant, tmp_path: Path, until: Until) -> Callable[..., Followed]:
    """Start a server with these options, and a job to follow."""

    def make(*options: str) -> Followed:
        distant.up(*options)
        return Followed(distant.worker, tmp_path, until)

    return make


def losses(lines: list[str]) -> int:
    """Return the number of lost connections in the lines on stderr; a busy machine may lose one more."""
    assert all(line.endswith("trying again for 60 s") for line in lines[::2]), lines
    assert all(line == "worker: the server is back" for line in lines[1::2]), lines
    assert 0 == len(lines) % 2, lines
    return len(lines) // 2


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_stream_resumes_when_the_link_is_back(
    distant: Distant, link: Link, follow: Any, until: Until, end: str
) -> None:
    """No byte is lost or repeated, although the server has closed the connection meanwhile."""
    followed = follow(*IMPATIENT)
    with followed.by(distant.client) as client:
        for _ in range(2):
            link.drop(end)
            until(lambda: distant.connections() == 0)
            link.restore(end)
            until(lambda: distant.connections() == 1)
            followed.await_more()
        assert 2 <= losses(followed.end(client))


def test_a_short_loss_is_invisible(distant: Distant, link: Link, follow: Any) -> None:
    """Within the timeouts of both sides, TCP retransmits the lost data."""
    followed = follow()
    with followed.by(distant.client) as client:
        for _ in range(3):
            link.drop("client")
            link.restore("client")
            followed.await_more()
        assert [] == followed.end(client)


def test_a_server_that_vanishes_is_detected(link: Link, follow: Any) -> None:
    """The client's keepalive detects it long before the server does; then the stream resumes."""
    followed = follow()
    with followed.by(link.at("client", [sys.executable, "-c", IMPATIENT_COMMAND])) as client:
        link.drop("server")
        lost = client.stderr.readline().decode().rstrip()
        link.restore("server")
        followed.await_more()
        assert 1 <= losses([lost, *followed.end(client)])


def test_input_and_output_are_exact_over_a_link_that_is_cut(
    distant: Distant, link: Link, until: Until, tmp_path: Path
) -> None:
    """200 MB go in and out while the link is cut; both sides have the same hash."""
    distant.up(*IMPATIENT)
    source, returned = tmp_path / "source", tmp_path / "returned"
    with source.open("wb") as file:
        for _ in range(INPUT_SIZE >> 20):
            file.write(os.urandom(1 << 20))
    command = [*distant.client, "run", "-i", "cat"]
    with source.open("rb") as stdin, returned.open("wb") as stdout:
        client = subprocess.Popen(
            command, env=distant.worker.env, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
        )
    with client:
        for part in range(1, 4):
            until(lambda wanted=part * INPUT_SIZE // 4: returned.stat().st_size >= wanted or client.poll())
            link.drop("client")
            until(lambda: distant.connections() == 0)
            link.restore("client")
        assert client.stderr is not None
        noted = client.stderr.read().decode().splitlines()
        assert 0 == client.wait(), noted
    assert 3 <= losses(noted)
    assert digest(source) == digest(returned)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
