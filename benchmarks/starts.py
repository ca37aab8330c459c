"""Starts over gRPC, of one or two installations of the worker, in units of one posix_spawn(3) and wait.

Each round measures posix_spawn, then each installation, so that all have the same share of other load.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from installation import Installation, cpu_seconds, cpu_seconds_of_children
from report import percentile

Call = Callable[[], object]
Row = dict[str, str | float]

AT_ONCE = 16
_SETTLED = 0.3
"""Seconds without CPU use after which all jobs of a round have ended and are removed."""

JOBS = "jobs: the zygote's child, then true"


def timed(call: Call) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(call: Call, times: int, at_once: int) -> tuple[float, float, float]:
    """Return calls per second, and the median and 99th percentile of the latency in milliseconds."""
    with ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        taken = list(pool.map(lambda _: timed(call), range(times)))
        rate = times / (time.perf_counter() - began)
    return rate, 1000 * statistics.median(taken), 1000 * percentile(taken, 99)


def spawn_and_wait() -> None:
    """Start /bin/true and wait for it."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


class Subject:
    """An installation that is measured, with the call that starts a job."""

    def __init__(
        self, name: str, installation: Installation, channel: grpc.Channel, request: bytes
    ) -> None:
        self.name = name
        self._processes = installation.processes()
        start = channel.unary_unary("/worker.v1.WorkerService/Start")
        self.start: Call = lambda: start(request)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each process, and of the jobs that have ended, once all have."""
        before: dict[str, float] = {}
        while (now := self._cpu()) != before:
            before = now
            time.sleep(_SETTLED)
        return now

    def _cpu(self) -> dict[str, float]:
        used = {name: cpu_seconds(pid) for name, pid in self._processes.items()}
        return {**used, JOBS: cpu_seconds_of_children(self._processes["supervisor"])}


@dataclass
class _Round:
    """What one round measured of an installation; times in milliseconds, of one start."""

    rate: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The CPU of all processes."""
        return sum(self.cpu.values())


def compare_starts(subjects: Sequence[Subject], times: int, rounds: int) -> tuple[list[Row], list[Row]]:
    """Return a table of rates, latencies and CPU, and one with the CPU of each process."""
    limits: list[_Round] = []
    found: dict[str, list[_Round]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        limits.append(_spawns(times))
        for subject in subjects:
            found[subject.name].append(_starts(subject, times))
    return _totals(limits, found), _by_process(limits, found)


def _spawns(times: int) -> _Round:
    before = own_cpu_seconds()
    rate, p50, p99 = measure(spawn_and_wait, times, 1)
    return _Round(rate, p50, p99, {"": 1000 * (own_cpu_seconds() - before) / times})


def _starts(subject: Subject, times: int) -> _Round:
    """Return rate and CPU with many clients, and the latency one by one."""
    _, p50, p99 = measure(subject.start, times, 1)
    before = subject.cpu()
    rate, *_ = measure(subject.start, times, AT_ONCE)
    after = subject.cpu()
    cpu = {name: 1000 * (after[name] - before[name]) / times for name in before}
    return _Round(rate, p50, p99, cpu)


def own_cpu_seconds() -> float:
    """Return the CPU seconds of this process, and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _totals(limits: Sequence[_Round], found: Mapping[str, Sequence[_Round]]) -> list[Row]:
    rows: list[Row] = []
    first = next(iter(found.values()))
    for name, each in {"posix_spawn and wait": limits, **found}.items():
        row: Row = {
            "start": name,
            f"per s, {AT_ONCE} at once": statistics.median(one.rate for one in each),
            "p50 ms, one by one": statistics.median(one.p50 for one in each),
            "p99 ms": statistics.median(one.p99 for one in each),
            "CPU ms, all processes": statistics.median(one.total for one in each),
            "CPU x posix_spawn": _ratio(each, limits, lambda one: one.total),
        }
        for column, figure in _RATIOS.items():
            row[f"{column} x"] = _ratio(each, first, figure)
        rows.append(row)
    return rows


_RATIOS: Mapping[str, Callable[[_Round], float]] = {
    "rate": lambda one: one.rate,
    "p50": lambda one: one.p50,
    "CPU": lambda one: one.total,
}
"""The figures of an installation that are compared with those of the first one."""


def _ratio(rounds: Sequence[_Round], others: Sequence[_Round], figure: Callable[[_Round], float]) -> float:
    """Return the median of the ratios of the rounds."""
    return statistics.median(figure(one) / figure(other) for one, other in zip(rounds, others, strict=True))


def _by_process(limits: Sequence[_Round], found: Mapping[str, Sequence[_Round]]) -> list[Row]:
    rows: list[Row] = []
    limit = statistics.mean(one.total for one in limits)
    for name, each in found.items():
        for process in each[0].cpu:
            cpu = statistics.mean(one.cpu[process] for one in each)
            rows.append({"start": name, "CPU of": process, "ms": cpu, "x posix_spawn": cpu / limit})
    return rows
