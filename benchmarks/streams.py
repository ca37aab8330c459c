"""Throughput of streams: recorded output to grpcio clients, compared with grpc.aio and the same bytes."""

import asyncio
import statistics
from operator import truediv
from pathlib import Path

from alternative import alternative
from grpcio_client import read_streams
from installation import Installation, cpu_seconds, installed
from report import report

from worker import JobSpec
from worker.client.job import Job
from worker.proto.worker import StreamRequest

SIZE = 100_000_000
ROUNDS = 3
METHOD = "/worker.v1.WorkerService/Stream"
TEXT_METHOD = "/WorkerService/Stream"


async def _output(installation: Installation) -> tuple[str, Path]:
    """Run a job with output, and return its id and a file with the same bytes."""
    async with installation.client() as client:
        job = str(await client.start(JobSpec("sh", ["-c", f"yes | head -c {SIZE}"])))
        await Job(client, job).wait()
    same = installation.home / "same"
    segments = (installation.home / "jobs" / job).glob("output-*")
    with same.open("wb") as file:
        for segment in sorted(segments, key=lambda path: int(path.name.removeprefix("output-"))):
            file.write(segment.read_bytes())
    return job, same


def _measure(
    address: str, pid: int, pki: Path, method: str, request: bytes, readers: int
) -> tuple[float, float]:
    """Return MB/s and the server's CPU seconds per GB."""
    before = cpu_seconds(pid)
    seconds, size = read_streams(address, pki, method, request, readers)
    assert size >= SIZE * readers
    return size / seconds / 1e6, (cpu_seconds(pid) - before) / size * 1e9


def main() -> None:
    """Measure all servers in each round, and report the medians."""
    with installed() as installation:
        job, file = asyncio.run(_output(installation))
        request = bytes(StreamRequest(job_id=job))
        with alternative("aio", installation.pki, file) as (address, pid):
            ways = {
                "grpc.aio": (address, pid, "/Alternative/Stream", b""),
                "worker": (installation.address, installation.server, METHOD, request),
                "worker, text as in the original": (
                    installation.address,
                    installation.server,
                    TEXT_METHOD,
                    request,
                ),
            }
            rows: list[dict[str, str | float]] = []
            for readers in (1, 8):
                measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
                for _ in range(ROUNDS):
                    for name, (where, server, method, asked) in ways.items():
                        figures = _measure(where, server, installation.pki, method, asked, readers)
                        measured[name].append(figures)
                for name, figures in measured.items():
                    rates = [rate for rate, _ in figures]
                    limits = [rate for rate, _ in measured["grpc.aio"]]
                    rows.append(
                        {
                            "server": name,
                            "clients": str(readers),
                            "MB/s": statistics.median(rates),
                            "x grpc.aio": statistics.median(map(truediv, rates, limits)),
                            "CPU s/GB": statistics.median(cpu for _, cpu in figures),
                        }
                    )
        report("streams", f"Streams of {SIZE / 1e6:.0f} MB to grpcio clients", rows)


if __name__ == "__main__":
    main()
