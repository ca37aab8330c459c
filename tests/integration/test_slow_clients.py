"""Clients that read slowly, not at all, or vanish: their cost, and how the server ends them."""

import os
import signal
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from worker.api.tls import client_context
from worker.client.errors import RpcError
from worker.client.job import Job
from worker.core.model.job import JobSpec
from worker.proto.worker import StreamRequest

from ..support.followed import Until

LARGEST = (1 << 31) - 1
NOISY = JobSpec("sh", ["-c", "yes | head -c 100000000"])


class Raw:
    """A client that uses HTTP/2 over TLS directly, and sends only what a test sends."""

    def __init__(self, installation: Any, window: int = LARGEST) -> None:
        host, port = (installation.home / "address").read_text().strip().rsplit(":", 1)
        pki = installation.home / "pki"
        context = client_context(ca=pki / "ca.crt", certificate=pki / "writer.crt", key=pki / "writer.key")
        plain = socket.create_connection((host, int(port)))
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self.socket.settimeout(60)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window(LARGEST - 65535)
        self.flush()

    def flush(self) -> None:
        """Send the frames that h2 has queued; raise ConnectionError if the server has closed."""
        try:
            self.socket.sendall(self.h2.data_to_send())
        except ssl.SSLEOFError as closed:
            raise ConnectionError("the server has closed") from closed

    def stream(self, job: str, *, end: bool = True) -> int:
        """Request a job's output and return the number of the stream."""
        stream = self.h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "https",
            ":path": "/worker.v1.WorkerService/Stream",
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        self.h2.send_headers(stream, list(headers.items()))
        message = bytes(StreamRequest(job_id=job))
        self.h2.send_data(stream, struct.pack(">BI", 0, len(message)) + message, end_stream=end)
        self.flush()
        return stream

    def read(self) -> list[h2.events.Event]:
        """Return the next events, and open no window; raise ConnectionError if the server has closed."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server has closed")
        events = self.h2.receive_data(data)
        self.flush()  # acknowledges settings and pings
        return events

    def read_output(self) -> int:
        """Wait for output and return its number of bytes."""
        while not (size := sum(map(_size, self.read()))):
            pass
        return size

    def trailers(self) -> dict[str, str]:
        """Read until a stream ends and return its trailers."""
        while True:
            for event in self.read():
                if isinstance(event, h2.events.TrailersReceived):
                    return dict(event.headers)
                if isinstance(event, h2.events.ResponseReceived):
                    headers = dict(event.headers)
                    if "grpc-status" in headers:
                        return headers


def _size(event: h2.events.Event) -> int:
    return len(event.data) if isinstance(event, h2.events.DataReceived) else 0


@contextmanager
def raw(installation: Any, window: int = LARGEST) -> Iterator[Raw]:
    """Connect, and close the connection at the end."""
    client = Raw(installation, window)
    try:
        yield client
    finally:
        client.socket.close()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, module_install: Any) -> Any:
    """A worker with short timeouts, for all tests of this module."""
    installation = module_install(tmp_path_factory.mktemp("strict") / "home")
    installation.worker(
        "up",
        *("--stalled-client-timeout", "500ms"),
        *("--keepalive-time", "500ms"),
        *("--keepalive-timeout", "1s"),
        *("--max-streams-per-client", "20"),
    )
    return installation


def peers(installation: Any) -> set[str]:
    """Return the remote addresses of the server's connections."""
    port = int((installation.home / "address").read_text().rsplit(":", 1)[1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    return {
        remote
        for _, local, remote, state, *_ in lines
        if local.endswith(f":{port:04X}") and state == established
    }


async def start(installation: Any, spec: JobSpec) -> str:
    """Start a job and return its id."""
    async with installation.client() as client:
        return str(await client.start(spec))


async def stop(installation: Any, job: str) -> None:
    """Stop a job at once and remove it."""
    async with installation.client() as client:
        await Job(client, job).stop(grace=0)
        await Job(client, job).remove()


@pytest.fixture
async def endless(strict: Any) -> AsyncIterator[str]:
    """A job that writes as fast as it can."""
    job = await start(strict, JobSpec("sh", ["-c", "yes | head -c 200000000; exec sleep 1000"]))
    yield job
    await stop(strict, job)


def test_a_client_that_reads_nothing_gets_the_reason(strict: Any, endless: str) -> None:
    """Its stream ends with the reason; its connection and the other calls on it continue."""
    with raw(strict, window=100_000) as client:
        client.stream(endless)
        trailers = client.trailers()
        assert "14" == trailers["grpc-status"]
        assert (
            "the client has read too little output for 0.5 s (setting stalled_client_timeout)"
            == (trailers["grpc-message"])
        )
        client.stream("b58476f2-9479-445b-898d-29eeaf905a47")
        assert "5" == client.trailers()["grpc-status"]


async def test_our_own_client_reports_the_reason(strict: Any, endless: str) -> None:
    """It still gets the output that was sent before the reason."""
    log = strict.home / "server.log"

    def ended() -> int:
        return int(log.read_text().count("ending a call: the client has read too little output"))

    before = ended()
    async with strict.client() as client, aclosing(Job(client, endless).stream()) as chunks:
        size = len((await anext(chunks)).data)
        while ended() == before:
            await client.query(endless)  # and the stream is not read
        with pytest.raises(RpcError, match="desc = the client has read too little output"):  # noqa: PT012
            async for chunk in chunks:
                size += len(chunk.data)
    assert 0 < size < 200_000_000


def test_a_client_that_does_not_read_its_socket_is_disconnected(
    strict: Any, endless: str, until: Until
) -> None:
    """With windows of any size, it gets only the output that the kernel has buffered for it."""
    others = peers(strict)
    with raw(strict) as client:
        [peer] = peers(strict) - others
        client.stream(endless)
        until(lambda: peer not in peers(strict))
        with pytest.raises(ConnectionError):
            sum(iter(client.read_output, None))


def test_a_client_that_vanishes_is_noticed(strict: Any, endless: str, until: Until) -> None:
    """A stopped process does not answer pings, like one behind a dead link."""
    others = peers(strict)
    with subprocess.Popen([*strict.command, "wait", endless], env=strict.env) as client:
        try:
            until(lambda: bool(peers(strict) - others))
            [peer] = peers(strict) - others
            os.kill(client.pid, signal.SIGSTOP)
            until(lambda: peer not in peers(strict))
        finally:
            client.kill()


def test_an_idle_client_that_answers_stays(strict: Any, endless: str) -> None:
    """A client that answers pings is not disconnected."""
    with raw(strict) as client:
        pings = 0
        while pings < 3:
            pings += sum(isinstance(event, h2.events.PingReceived) for event in client.read())


async def test_a_client_may_close_its_half_of_a_stream(strict: Any) -> None:
    """The stream ends with the job, whether the client has closed its half or not."""
    job = await start(strict, JobSpec("sh", ["-c", "echo one; sleep 0.2; echo two"]))
    with raw(strict) as client:
        for end in (True, False):
            client.stream(job, end=end)
            assert "0" == client.trailers()["grpc-status"]


def test_resets_release_everything(strict: Any, endless: str) -> None:
    """A client that resets its streams while they run holds no slot and no watch."""
    with raw(strict, window=200_000) as client:
        for _ in range(60):  # three times the limit
            stream = client.stream(endless)
            client.read_output()
            client.h2.reset_stream(stream)
            client.flush()
        client.stream("b58476f2-9479-445b-898d-29eeaf905a47")
        assert "5" == client.trailers()["grpc-status"]


def test_the_streams_of_a_client_are_bounded(strict: Any, endless: str) -> None:
    """The error names the setting; a stream that ends releases its slot."""
    with raw(strict, window=100) as client:
        streams = [client.stream(endless) for _ in range(20)]
        client.stream(endless)
        refusal = client.trailers()
        assert "8" == refusal["grpc-status"]
        assert "'writer' has 20 streams open" in refusal["grpc-message"]
        assert "(setting max_streams_per_client)" in refusal["grpc-message"]
        client.h2.reset_stream(streams[0])
        client.stream("b58476f2-9479-445b-898d-29eeaf905a47")
        assert "5" == client.trailers()["grpc-status"]


async def test_stuck_clients_cost_little(installation: Any, until: Until) -> None:
    """A hundred clients that read nothing cost one chunk each, and others are served meanwhile."""
    job = await start(installation, NOISY)
    installation.wait(job)

    def resident() -> int:
        status = Path(f"/proc/{installation.server_pid()}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))

    with raw(installation, window=65535) as first:
        first.stream(job)
        until(lambda: resident() > 0)
        before = resident()
        clients = [Raw(installation, window=65535) for _ in range(100)]
        for client in clients:
            client.stream(job)
            client.read_output()
        assert 100_000_000 == len(installation.stream(job))
        assert resident() - before < 100 * 600
        for client in clients:
            client.socket.close()


async def test_a_slow_reader_gets_everything(strict: Any) -> None:
    """A client that reads slowly but steadily is not stalled."""
    job = await start(strict, JobSpec("sh", ["-c", "yes | head -c 300000"]))
    with raw(strict, window=10_000) as client:
        stream, size = client.stream(job), 0
        while size < 300_000:
            got = client.read_output()
            size += got
            client.h2.increment_flow_control_window(got, stream)
            client.flush()
