"""Unary calls over gRPC: starts compared with posix_spawn(3), queries with a method that does nothing.

The client is grpcio and sends encoded messages, so every difference comes from the server.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from alternative import alternative
from grpcio_client import connect
from installation import Installation, cpu_seconds, cpu_seconds_of_children, installed
from report import percentile, report

from worker.proto.worker import (
    Limits,
    QueryRequest,
    StartRequest,
    StartResponse,
    StreamRequest,
    WaitRequest,
)

STARTS = 200
QUERIES = 2000
ROUNDS = 3
STREAMS = 4
SERVICE = "/worker.v1.WorkerService"
LIMITED = bytes(StartRequest(name="true", limits=Limits(cpu_quota_millicores=1000, memory_max=256 << 20)))
"""A start with CPU and memory limits."""

Call = Callable[[], object]
Row = dict[str, str | float]


def _timed(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _measure(call: Call, times: int, at_once: int) -> tuple[float, float, float]:
    """Return calls per second, and the median and 99th percentile of the latency in milliseconds."""
    with ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        taken = list(pool.map(lambda _: _timed(call), range(times)))
        rate = times / (time.perf_counter() - began)
    return rate, 1000 * statistics.median(taken), 1000 * percentile(taken, 99)


def _spawn_and_wait() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def _compare(kind: str, calls: dict[str, tuple[Call, int | None]], times: int) -> list[Row]:
    """Measure all calls in each round. The first is the limit. A pid selects whose CPU is reported."""
    rows: list[Row] = []
    for at_once in (1, 16):
        found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, (call, pid) in calls.items():
                before = cpu_seconds(pid) if pid else 0.0
                figures = _measure(call, times, 1 if pid is None else at_once)
                cpu = (cpu_seconds(pid) - before) / times * 1000 if pid else 0.0
                found[name].append((*figures, cpu))
        limits = [rate for rate, *_ in next(iter(found.values()))]
        for name, each in found.items():
            rates, p50, p99, cpu = zip(*each, strict=True)
            ratio = statistics.median(rate / limit for rate, limit in zip(rates, limits, strict=True))
            rows.append(
                {
                    kind: name,
                    "at once": str(at_once),
                    "per s": statistics.median(rates),
                    "x limit": ratio,
                    "p50 ms": statistics.median(p50),
                    "p99 ms": statistics.median(p99),
                    "server CPU ms": statistics.median(cpu),
                }
            )
    return rows


def _starts(installation: Installation, channel: grpc.Channel) -> list[Row]:
    start = channel.unary_unary(f"{SERVICE}/Start")
    plain = bytes(StartRequest(name="true"))
    calls: dict[str, tuple[Call, int | None]] = {
        "posix_spawn and wait": (_spawn_and_wait, None),
        "worker": (lambda: start(plain), installation.server),
        "worker, CPU and memory limits": (lambda: start(LIMITED), installation.server),
    }
    return _compare("start", calls, STARTS)


def _cpu_of_starts(installation: Installation, channel: grpc.Channel) -> list[Row]:
    """Return the CPU that each process uses for a job with limits, until its cgroups are removed."""
    start = channel.unary_unary(f"{SERVICE}/Start")
    spawning = "posix_spawn and wait, child included"
    before = {spawning: _own_cpu_seconds()}
    _measure(_spawn_and_wait, STARTS, 1)
    after = {spawning: _own_cpu_seconds()}
    processes = installation.processes()
    job = "the job: zygote's child, then true"

    def used() -> dict[str, float]:
        spent = {name: cpu_seconds(pid) for name, pid in processes.items()}
        jobs = cpu_seconds_of_children(processes["supervisor"])
        return {**spent, job: jobs, "grpcio client": cpu_seconds(os.getpid())}

    before |= used()
    _measure(lambda: start(LIMITED), STARTS, 16)
    time.sleep(1)  # until all jobs have finished
    after |= used()
    return [
        {"CPU of": name, "ms for each": 1000 * (after[name] - before[name]) / STARTS} for name in before
    ]


def _own_cpu_seconds() -> float:
    return cpu_seconds(os.getpid()) + cpu_seconds_of_children(os.getpid())


def _queries(installation: Installation, channel: grpc.Channel, job: str) -> list[Row]:
    query = channel.unary_unary(f"{SERVICE}/Query")
    request = bytes(QueryRequest(job_id=job))
    with (
        alternative("noop", installation.pki) as (address, pid),
        connect(address, installation.pki) as other,
    ):
        noop = other.unary_unary("/Alternative/Noop")
        calls: dict[str, tuple[Call, int | None]] = {
            "a method that does nothing": (lambda: noop(b""), pid),
            "query": (lambda: query(request), installation.server),
        }
        return _compare("call", calls, QUERIES)


def _beside_streams(installation: Installation, channel: grpc.Channel, job: str) -> list[Row]:
    """Return the latency of queries while streams run at full speed."""
    start, wait = (channel.unary_unary(f"{SERVICE}/{name}") for name in ("Start", "Wait"))
    command = bytes(StartRequest(name="sh", args=["-c", "yes | head -c 400000000"]))
    noisy = StartResponse.parse(start(command)).job_id
    wait(bytes(WaitRequest(job_id=noisy)))
    query, asked = channel.unary_unary(f"{SERVICE}/Query"), bytes(QueryRequest(job_id=job))
    rows: list[Row] = []
    for streams in (0, STREAMS):
        readers = []
        if streams:
            stream = bytes(StreamRequest(job_id=noisy)).hex()
            script = str(Path(__file__).parent / "grpcio_client.py")
            command_line = [sys.executable, script, installation.address, str(installation.pki)]
            readers = [subprocess.Popen([*command_line, f"{SERVICE}/Stream", stream, str(streams), "100"])]
            time.sleep(2)  # until all streams run at full speed
        taken = [1000 * _timed(lambda: query(asked)) for _ in range(500)]
        rows.append(
            {
                "queries beside": f"{streams} streams",
                "p50 ms": statistics.median(taken),
                "p99 ms": percentile(taken, 99),
            }
        )
        for reader in readers:
            reader.terminate()
            reader.wait()
    return rows


def main() -> None:
    """Measure and report."""
    with installed() as installation, connect(installation.address, installation.pki) as channel:
        report("starts", f"{STARTS} starts, medians of {ROUNDS} rounds", _starts(installation, channel))
        report("cpu_of_starts", f"CPU of {STARTS} starts", _cpu_of_starts(installation, channel))
        start = channel.unary_unary(f"{SERVICE}/Start")
        job = StartResponse.parse(start(bytes(StartRequest(name="true")))).job_id
        channel.unary_unary(f"{SERVICE}/Wait")(bytes(WaitRequest(job_id=job)))
        report(
            "queries", f"{QUERIES} calls, medians of {ROUNDS} rounds", _queries(installation, channel, job)
        )
        report("beside_streams", "Queries beside streams", _beside_streams(installation, channel, job))


if __name__ == "__main__":
    main()
