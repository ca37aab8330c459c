"""The cost of a client command: its imports, one connection, and its calls."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from worker.api.grpc.calls import Calls
from worker.api.server import ApiServer
from worker.core.model.job import JobSpec

from ..support.clients import impatient
from ..support.served import Served, serving

TOO_MUCH = {
    "importlib.metadata",
    "email",
    "zipfile",
    "tomllib",
    "sqlite3",
    "cattrs",
    "cryptography",
    "http.client",
    "multiprocessing",
}
OF_SERVERS = {
    f"worker.api.{name}"
    for name in ("authorization", "errors", "grpc.calls", "grpc.framing", "handlers", "methods", "server")
}
OF_OTHERS = {
    "worker.cli.options.limits",
    "worker.cli.options.job_spec",
    "worker.cli.commands.stream",
    "worker.proto.health",
}
PROGRAM = """
import sys
from worker.cli.main import run
status = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


@dataclass
class Seen:
    """The connections and calls that reached the server."""

    connections: int = 0
    calls: list[str] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Count connections and calls of servers that are started from now on."""
    seen = Seen()
    connect, admit = ApiServer._connect, Calls.admit

    def counting_connect(server: ApiServer) -> Any:
        seen.connections += 1
        return connect(server)

    async def counting_admit(calls: Calls, event: Any) -> None:
        seen.calls.append(event.method_name.rpartition("/")[2])
        await admit(calls, event)

    monkeypatch.setattr(ApiServer, "_connect", counting_connect)
    monkeypatch.setattr(Calls, "admit", counting_admit)
    return seen


async def command(served: Served, *arguments: str) -> set[str]:
    """Run a command as a process, and return the modules that it loads."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", PROGRAM, *arguments),
        env=os.environ
        | {
            "WORKER_SERVER": f"{served.host}:{served.port}",
            "WORKER_CA": str(served.pki / "ca.crt"),
            "WORKER_CERT": str(served.pki / "writer.crt"),
            "WORKER_KEY": str(served.pki / "writer.key"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert 0 == process.returncode, errors
    return set(errors.decode().split())


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        (["start", "true"], ["Start"]),
        (["query", "JOB"], ["Query"]),
        (["list"], ["List"]),
        (["whoami"], ["WhoAmI"]),
        (["whoami", "-o", "json"], ["WhoAmI"]),
        (["wait", "JOB"], ["Wait"]),
        (["stream", "JOB"], ["Stream", "Query"]),
        (["stream", "SPLIT"], ["Stream", "Query", "Stream"]),
        (["stream", "--stderr", "SPLIT"], ["Stream"]),
        (["stream", "--offset", "0", "JOB"], ["Query", "Stream"]),
        (["remove", "JOB"], ["Remove"]),
        (["signal", "RUNNING", "CONT"], ["Signal"]),
        (["pause", "RUNNING"], ["Pause"]),
        (["resume", "RUNNING"], ["Resume"]),
        (["stop", "--signal-all", "RUNNING"], ["Stop"]),
        (["run", "true"], ["Start", "Stream", "Stream", "Wait"]),
        (["run", "--no-split-output", "true"], ["Start", "Stream", "Wait"]),
        (["run", "-i", "--no-split-output", "cat"], ["Start", "Attach", "Stream", "Wait"]),
        (["start", "-i", "cat"], ["Start"]),
    ],
)
async def test_a_command_makes_one_connection_and_few_calls(
    pki: Path, seen: Seen, arguments: list[str], calls: list[str]
) -> None:
    """No command probes the server first; only run and stream need more than one call.

    `stream` asks for the channels while it streams the first one; an offset depends on the answer.
    """
    async with serving(pki) as served:
        job = await served.worker.start(JobSpec("true"))
        await served.worker.wait(job)
        running = await served.worker.start(JobSpec("sleep", ["1000"]))
        split = await served.worker.start(JobSpec("true", split_output=True))
        jobs = {"JOB": str(job), "RUNNING": str(running), "SPLIT": str(split)}
        loaded = await command(served, *(jobs.get(each, each) for each in arguments))
        assert (1, calls) == (seen.connections, seen.calls)
        assert not (TOO_MUCH | OF_SERVERS) & loaded


async def test_a_query_loads_only_what_it_needs(pki: Path) -> None:
    """A query loads no other command, and no library that it does not use."""
    async with serving(pki) as served:
        job = await served.worker.start(JobSpec("true"))
        loaded = await command(served, "query", str(job))
        assert not (TOO_MUCH | OF_SERVERS | OF_OTHERS) & loaded


async def test_a_client_closes_without_waiting_for_the_server(pki: Path) -> None:
    """Once its call has returned, a client closes the connection without waiting for the server."""
    async with serving(pki) as served:
        client = impatient(served.host, served.port, served.context())
        await client.__aenter__()
        await client.list()
        (connection,) = served.server.connections
        connection.transport.pause_reading()  # type: ignore[union-attr] # it does not read our close
        leaving = asyncio.ensure_future(client.__aexit__(None, None, None))
        for _ in range(20):  # iterations of the loop
            await asyncio.sleep(0)
        assert leaving.done()
        connection.transport.resume_reading()  # type: ignore[union-attr]
