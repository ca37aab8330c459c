"""Unary calls over gRPC: starts compared with posix_spawn(3), queries with a method that does nothing.

The client is grpcio and sends encoded messages, so every difference comes from the server.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
from alternative import alternative
from grpcio_client import connect
from installation import Installation, cpu_seconds, installed
from report import percentile, report
from starts import Call, Row, Subject, compare_starts, measure, timed

from worker.proto.worker import (
    Limits,
    QueryRequest,
    StartRequest,
    StartResponse,
    StreamRequest,
    WaitRequest,
)

STARTS, START_ROUNDS = 100, 8
"""Short rounds: other load on the machine then has the same share in both installations."""

QUERIES = 2000
ROUNDS = 3
STREAMS = 4
SERVICE = "/worker.v1.WorkerService"
LIMITED = bytes(StartRequest(name="true", limits=Limits(cpu_quota_millicores=1000, memory_max=256 << 20)))
"""A start with CPU and memory limits."""


def _compare(kind: str, calls: dict[str, tuple[Call, int]], times: int) -> list[Row]:
    """Measure all calls in each round. The first is the limit. The CPU is that of the pid."""
    rows: list[Row] = []
    for at_once in (1, 16):
        found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, (call, pid) in calls.items():
                before = cpu_seconds(pid)
                figures = measure(call, times, at_once)
                cpu = (cpu_seconds(pid) - before) / times * 1000
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


def _starts(installation: Installation, channel: grpc.Channel, beside: str | None) -> None:
    """Report starts with CPU and memory limits, of this installation and of another one."""
    with ExitStack() as stack:
        subjects = [Subject("worker", installation, channel, LIMITED)]
        if beside is not None:
            other = stack.enter_context(installed(python=beside))
            wire = stack.enter_context(connect(other.address, other.pki))
            subjects.insert(0, Subject("the other worker", other, wire, LIMITED))
        totals, processes = compare_starts(subjects, STARTS, START_ROUNDS)
    report("starts", f"{STARTS} starts with limits, medians of {START_ROUNDS} rounds", totals)
    report("cpu_of_starts", "CPU of one start, until its cgroups are removed", processes)


def _queries(installation: Installation, channel: grpc.Channel, job: str) -> list[Row]:
    query = channel.unary_unary(f"{SERVICE}/Query")
    request = bytes(QueryRequest(job_id=job))
    with (
        alternative("noop", installation.pki) as (address, pid),
        connect(address, installation.pki) as other,
    ):
        noop = other.unary_unary("/Alternative/Noop")
        calls: dict[str, tuple[Call, int]] = {
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
        taken = [1000 * timed(lambda: query(asked)) for _ in range(500)]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", metavar="PYTHON", help="compare starts with the worker of this Python")
    parser.add_argument("--starts-only", action="store_true", help="measure no queries")
    options = parser.parse_args()
    with installed() as installation, connect(installation.address, installation.pki) as channel:
        _starts(installation, channel, options.beside)
        if options.starts_only:
            return
        start = channel.unary_unary(f"{SERVICE}/Start")
        job = StartResponse.parse(start(bytes(StartRequest(name="true")))).job_id
        channel.unary_unary(f"{SERVICE}/Wait")(bytes(WaitRequest(job_id=job)))
        report(
            "queries", f"{QUERIES} calls, medians of {ROUNDS} rounds", _queries(installation, channel, job)
        )
        report("beside_streams", "Queries beside streams", _beside_streams(installation, channel, job))


if __name__ == "__main__":
    main()
