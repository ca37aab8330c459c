"""A server process over fakes for tests of attacks: its memory can be watched, and starting it is cheap.

Run as a program it serves jobs that have finished, prints its port, and ends with its stdin.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import grpc

from worker.api.bounds import Bounds
from worker.api.server import ApiServer
from worker.cli.server_log import log_to_stderr
from worker.core.engine.job_bounds import JobBounds
from worker.core.model.job import JobSpec
from worker.proto.worker import QueryRequest

from .served import make_worker, server_tls

QUERY = "/worker.v1.WorkerService/Query"


@dataclass
class Abused:
    """The process; the first job has ended, the second one runs, and the third has long output and runs."""

    pid: int
    port: int
    pki: Path
    log: Path
    jobs: list[str]

    def resident(self) -> int:
        """Return its resident memory in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise AssertionError("the server has ended")

    def channel(self, name: str, **options: Any) -> grpc.Channel:
        """Return a channel of a stock client with its own connection."""
        credentials = grpc.ssl_channel_credentials(
            *((self.pki / each).read_bytes() for each in ("ca.crt", f"{name}.key", f"{name}.crt"))
        )
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        return grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, [*own, *options.items()])

    @contextmanager
    def other(self, attacker: str = "reader") -> Iterator["Other"]:
        """Return another client than the attacker."""
        with self.channel("reader" if attacker == "writer" else "writer") as channel:
            yield Other(channel, self.jobs[0])


class Other:
    """A client that makes calls one after the other, and counts them."""

    def __init__(self, channel: grpc.Channel, job: str) -> None:
        self._query = channel.unary_unary(QUERY)
        self._request = bytes(QueryRequest(job_id=job))
        self.answered = 0
        self.call()

    def call(self, times: int = 1) -> None:
        """Make calls; each must be answered."""
        for _ in range(times):
            self._query(self._request, timeout=60)
            self.answered += 1


@contextmanager
def serving_abused(pki: Path, log: Path, jobs: int = 1, **bounds: Any) -> Iterator[Abused]:
    """Run the server; ``bounds`` are those of Bounds and JobBounds."""
    command = [sys.executable, "-m", __name__, str(pki), str(jobs), json.dumps(bounds)]
    root = Path(__file__).parent.parent.parent
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=root
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        facts = json.loads(process.stdout.readline())
        yield Abused(process.pid, facts["port"], pki, log, facts["jobs"])
    finally:
        process.stdin.close()
        process.stdout.close()
        assert 0 == process.wait(60), log.read_text()


async def serve(pki: Path, jobs: int, bounds: Bounds, job_bounds: JobBounds) -> None:
    """Serve until stdin ends."""
    worker = make_worker(bounds=job_bounds)
    server = ApiServer(worker, server_tls(pki), bounds=bounds)
    spec = JobSpec("binary", labels={"a": "b"})
    started = [await worker.start(spec, owner="writer") for _ in range(jobs)]
    for job in started:
        await worker.wait(job)
    running = [await worker.start(JobSpec(each)) for each in ("write-and-sleep", "binary-and-sleep")]
    [(_, port)] = await server.start("127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": port, "jobs": [*map(str, (started[0], *running))]}) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()
    await worker.close()


if __name__ == "__main__":
    log_to_stderr("info", "text")
    of_jobs, of_calls = {}, {}
    for name, value in json.loads(sys.argv[3]).items():
        (of_jobs if name in {each.name for each in fields(JobBounds)} else of_calls)[name] = value
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), Bounds(**of_calls), JobBounds(**of_jobs)))
