"""Following output: the first byte, the lag of a line, and a job that makes many short writes.

Also the cost of a thousand clients that follow silent jobs.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from alternative import alternative
from grpcio_client import connect
from installation import Installation, cpu_seconds, installed, resident_mb
from report import percentile, report

from worker import JobSpec
from worker.client.job import Job
from worker.proto.worker import StreamRequest

METHOD = "/worker.v1.WorkerService/Stream"
ROUNDS = 3
STREAMS = 50
FOLLOWERS = 1000
SILENT = 10
KEEPALIVE = 30.0
"""Seconds within which the server pings each idle follower once."""

TICKER = """
import os, time
for _ in range(300):
    time.sleep(0.01)
    os.write(1, b"%.6f\\n" % time.time())
"""
CHATTY = """
import os, time
began = time.monotonic()
for number in range(300_000):
    os.write(1, b"a short line of output\\n")
    while number > 100_000 * (time.monotonic() - began):
        time.sleep(0.0005)
"""

Figures = dict[str, tuple[float, float]]
"""For each measurement: the worker's figure, and that of its limit or alternative."""


async def _started(installation: Installation, command: str, *arguments: str) -> str:
    async with installation.client() as client:
        return str(await client.start(JobSpec(command, list(arguments))))


def _percentiles(what: str, ours: list[float], theirs: list[float]) -> Figures:
    return {
        f"{what}, p{percent}, ms": (percentile(ours, percent), percentile(theirs, percent))
        for percent in (50, 99)
    }


def _first_message(channel: grpc.Channel, method: str, request: bytes) -> float:
    """Return the milliseconds from a request to the first message, over an open connection."""
    began = time.perf_counter()
    call = channel.unary_stream(method)(request)
    next(call)
    taken = 1000 * (time.perf_counter() - began)
    call.cancel()
    return taken


def _first_byte(ours: grpc.Channel, job: str, theirs: grpc.Channel) -> Figures:
    request, taken = bytes(StreamRequest(job_id=job)), []
    for _ in range(STREAMS):
        pair = _first_message(ours, METHOD, request), _first_message(theirs, "/Alternative/Stream", b"")
        taken.append(pair)
    first = [ours for ours, _ in taken], [theirs for _, theirs in taken]
    return _percentiles("first byte, beside grpc.aio", *first)


def _lag(installation: Installation) -> Figures:
    """Compare the delay of lines, written 10 ms apart, over a stream and over a pipe."""
    ours = asyncio.run(_lag_of_a_stream(installation))
    with subprocess.Popen([sys.executable, "-c", TICKER], stdout=subprocess.PIPE) as ticker:
        assert ticker.stdout is not None
        theirs = [1000 * (time.time() - float(line)) for line in ticker.stdout]
    return _percentiles("lag of a line, beside a pipe", ours, theirs)


async def _lag_of_a_stream(installation: Installation) -> list[float]:
    taken = []
    async with installation.client() as client:
        job = str(await client.start(JobSpec(sys.executable, ["-c", TICKER])))
        async for chunk in Job(client, job).stream():
            taken += [1000 * (time.time() - float(line)) for line in chunk.data.split()]
    return taken


async def _chatty(installation: Installation) -> Figures:
    """Compare the CPU for a followed job of 100,000 short writes a second with that of cat > file."""
    server, recorder = installation.server, installation.recorder
    before, began = [cpu_seconds(server), cpu_seconds(recorder)], time.perf_counter()
    size = 0
    async with installation.client() as client:
        job = str(await client.start(JobSpec(sys.executable, ["-c", CHATTY])))
        async for chunk in Job(client, job).stream():
            size += len(chunk.data)
        seconds = time.perf_counter() - began
        used = [cpu_seconds(server) - before[0], cpu_seconds(recorder) - before[1]]
        await Job(client, job).remove()
    ours = [100 * each / seconds for each in used]
    theirs = await asyncio.to_thread(_cat, installation.home / "same")
    return {
        "100,000 short writes a second: CPU of the server, beside cat > file, %": (ours[0], theirs),
        "100,000 short writes a second: CPU of the recorder, beside cat > file, %": (ours[1], theirs),
    }


def _cat(file: Path) -> float:
    """Return the percentage of a CPU that cat uses to write the same output to a file."""
    began = time.perf_counter()
    writer = subprocess.Popen([sys.executable, "-c", CHATTY], stdout=subprocess.PIPE)
    with writer, file.open("wb") as target:
        cat = subprocess.Popen(["cat"], stdin=writer.stdout, stdout=target)
        _, _, used = os.wait4(cat.pid, 0)
        cat.returncode = 0
    return 100 * (used.ru_utime + used.ru_stime) / (time.perf_counter() - began)


@contextmanager
def _idle_followers(installation: Installation, jobs: list[str]) -> Iterator[None]:
    """Run clients that follow silent jobs, each over a separate connection."""
    with ExitStack() as open_channels:
        calls = []
        for number in range(FOLLOWERS):
            channel = open_channels.enter_context(connect(installation.address, installation.pki))
            request = bytes(StreamRequest(job_id=jobs[number % SILENT]))
            calls.append(channel.unary_stream(METHOD)(request))
        for call in calls:
            next(call)
        time.sleep(1)
        yield
        for call in calls:
            call.cancel()


def _cpu(pid: int, seconds: float) -> float:
    """Return the percentage of a CPU that a process uses during this time."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / seconds


def _silence() -> list[dict[str, str | float]]:
    """Return the cost of idle followers to the server, over a long period: pings come in clusters."""
    with installed() as installation:
        jobs = [
            asyncio.run(_started(installation, "sh", "-c", "echo here; exec sleep 1000"))
            for _ in range(SILENT)
        ]
        server = installation.server
        alone, memory = _cpu(server, KEEPALIVE / 3), resident_mb(server)
        with _idle_followers(installation, jobs):
            cpu, resident = _cpu(server, KEEPALIVE), resident_mb(server)
            infos = [path.read_text() for path in Path(f"/proc/{server}/fdinfo").iterdir()]
    watches = sum(info.count("inotify wd:") for info in infos)
    each = 1000 * (resident - memory) / FOLLOWERS
    return [
        _row(f"{FOLLOWERS} idle followers: CPU of the server, beside none, %", cpu, alone),
        _row(f"{FOLLOWERS} idle followers of {SILENT} jobs: inotify watches", watches),
        _row(f"{FOLLOWERS} idle followers: memory, KB each", each),
    ]


def _row(what: str, worker: float, limit: float | None = None) -> dict[str, str | float]:
    return {
        "what": what,
        "worker": float(worker),
        "limit": "-" if limit is None else limit,
        "x limit": worker / limit if limit else "-",
    }


def _medians(rounds: list[Figures]) -> Iterator[dict[str, str | float]]:
    """Yield the median of each figure over all rounds, and the median of the ratios within a round."""
    for what in rounds[0]:
        pairs = [figures[what] for figures in rounds]
        row = _row(what, *(statistics.median(side) for side in zip(*pairs, strict=True)))
        yield row | {"x limit": statistics.median(ours / theirs for ours, theirs in pairs)}


def main() -> None:
    """Measure each figure and its limit in each round, and report the medians."""
    rounds = []
    with installed() as installation:
        job = asyncio.run(_started(installation, "sh", "-c", "echo here; exec sleep 1000"))
        file = installation.home / "here"
        file.write_text("here\n")
        with (
            alternative("aio", installation.pki, file) as (address, _),
            connect(installation.address, installation.pki) as ours,
            connect(address, installation.pki) as theirs,
        ):
            for channel in (ours, theirs):
                grpc.channel_ready_future(channel).result(timeout=30)
            for _ in range(ROUNDS):
                figures = _first_byte(ours, job, theirs) | _lag(installation)
                rounds.append(figures | asyncio.run(_chatty(installation)))
    report("following", f"Followers, medians of {ROUNDS} rounds", [*_medians(rounds), *_silence()])


if __name__ == "__main__":
    main()
