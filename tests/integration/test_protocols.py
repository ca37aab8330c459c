"""Servers and supervisors of another protocol version: served if supported, left alone otherwise."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker import JobId
from worker.core.errors import SpawnerUnavailable
from worker.core.model.ending import Channel, Signaled
from worker.core.model.job import JobState, new_job_id
from worker.linux.ipc.framing import PROTOCOL, Decoder, encode
from worker.linux.ipc.unix_sockets import socket_address
from worker.linux.output.store import RecorderStore
from worker.linux.state.layout import Layout

from ..support.generations import Machine


def test_a_supervisor_of_the_previous_protocol(machine: Machine) -> None:
    """A supervisor of protocol 1, without hello and generations: its job is listed, stopped, forgotten."""

    async def upgrade(job: JobId) -> None:
        async with machine.server() as server:
            assert {job} == set(server.found)
            assert JobState.RUNNING == server.found[job].progress.state
            await server.found[job].stop(signal.SIGTERM, 5)
            assert Signaled(signal.SIGTERM) == (await server.end(job)).ending
            await asyncio.to_thread(machine.await_supervisors, 1)

    machine.layout.make()
    with supervisor_of_protocol_1(machine.layout) as peer:
        job = asyncio.run(start_by_protocol_1(machine, peer))
        machine.until(lambda: "supervisor" in machine.generations())
    asyncio.run(upgrade(job))


def test_a_server_of_the_previous_protocol(machine: Machine) -> None:
    """A supervisor of this version serves a server that sends no hello: spawn, list, stop, forget."""

    async def start() -> None:
        async with machine.server() as server:
            await server.start("sleep", "1000")

    asyncio.run(start())
    (generation,) = machine.generations()
    with connected(machine.layout.generation(generation)) as peer:
        (old,) = ask(peer, {"call": 1, "do": "list"})["jobs"]
        new = asyncio.run(start_by_protocol_1(machine, peer))
        for name in (old["job"], str(new)):
            assert {"call": 2} == ask(
                peer, {"call": 2, "do": "stop", "job": name, "signal": 9, "grace": 0.0}
            )
        machine.until(lambda: all("end" in each for each in ask(peer, {"call": 3, "do": "list"})["jobs"]))
        for name in (old["job"], str(new)):
            assert {"call": 4} == ask(peer, {"call": 4, "do": "forget", "job": name})


@pytest.mark.parametrize(("protocol", "oldest"), [(0, 0), (PROTOCOL + 2, PROTOCOL + 1)])
def test_an_unsupported_protocol(machine: Machine, protocol: int, oldest: int) -> None:
    """A supervisor that is too old or too new is left alone; the error says what to do."""

    async def recover() -> None:
        async with machine.server():
            pass

    machine.layout.make()
    machine.layout.generation("strange").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(machine.layout.generation("strange"), os.O_RDONLY)
        listener.bind(socket_address(directory, "socket"))
        os.close(directory)
        listener.listen()
        code = (
            "import socket; from worker.linux.ipc.framing import encode\n"
            f"peer = socket.socket(fileno={listener.fileno()}).accept()[0]\n"
            "peer.recv(9999)\n"
            f"peer.sendall(encode({{'call': 1, 'protocol': {protocol}, 'oldest': {oldest}}}))\n"
            "peer.recv(1)\n"
        )
        command = [sys.executable, "-c", code]
        match = rf"speaks protocol {protocol}.*use the version"
        with (
            subprocess.Popen(command, pass_fds=[listener.fileno()]),
            pytest.raises(SpawnerUnavailable, match=match),
        ):
            asyncio.run(recover())


# --- protocol 1


@contextmanager
def supervisor_of_protocol_1(layout: Layout) -> Iterator[socket.socket]:
    """Run a supervisor at the path and with the protocol of the first version; connect to it."""
    code = (
        "import sys; from worker.linux.supervisor import __main__, requests\n"
        "requests.PROTOCOL = 1\n"
        "serve = requests.RequestServer.serve\n"
        "def serve_old(self, connection, message):\n"
        "    new = message['do'] in {'hello', 'hold', 'adopt'}\n"
        "    serve(self, connection, {'call': message['call']} if new else message)\n"
        "requests.RequestServer.serve = serve_old\n"
        "__main__.main()\n"
    )
    ready_read, ready_write = os.pipe()
    command = [sys.executable, "-c", code, str(layout.state_dir), "", str(ready_write)]
    subprocess.run(command, pass_fds=[ready_write], check=True)
    os.close(ready_write)
    assert os.read(ready_read, 10)
    os.close(ready_read)
    with connected(layout.supervisor) as peer:
        yield peer


@contextmanager
def connected(directory: Path) -> Iterator[socket.socket]:
    """Connect to a supervisor."""
    with socket.socket(socket.AF_UNIX) as peer:
        fd = os.open(directory, os.O_RDONLY)
        peer.connect(socket_address(fd, "socket"))
        os.close(fd)
        yield peer


async def start_by_protocol_1(machine: Machine, peer: socket.socket) -> JobId:
    """Start a job by a message of the first version."""
    outputs, job = RecorderStore(machine.home), new_job_id()
    await outputs.create(job, [Channel.OUTPUT])
    await outputs.close()
    plan = {
        "argv": ["sleep", "1000"],
        "env": {"PATH": "/usr/bin:/bin", "WORKER_JOB_ID": str(job)},
        "working_directory": "/",
        "uid": None,
        "gid": None,
        "groups": [],
        "placement": {"unified": None, "legacy": [], "oom_events": None},
        "channels": ["output"],
        "segment_size": 67108864,
        "timeout": None,
        "grace": 10.0,
        "leftovers": "kill",
    }
    answer = ask(peer, {"call": 1, "do": "spawn", "job": str(job), "plan": plan})
    assert answer["pid"] > 0, answer
    return job


def ask(peer: socket.socket, message: dict[str, object]) -> dict[str, object]:
    """Send a message and return its answer."""
    peer.sendall(encode(message))
    decoder = Decoder()
    while True:
        for answer in decoder.feed(peer.recv(65536)):
            if answer.get("call") == message["call"]:
                return answer
