"""The latency and the CPU of a start: the cost of starting a process inside cgroups and with limits.

The limit is posix_spawn(3) of the same command and waitpid(2), measured in the same rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from installation import cpu_seconds, cpu_seconds_of_children, supervisor_processes
from report import percentile, report
from starts import own_cpu_seconds, spawn_and_wait, timed

ROUNDS = 4
STARTS = 25
IDLE = 0.1

Measured = tuple[list[float], float]
"""The milliseconds of each start, and the CPU milliseconds of one."""

V2 = "v2"
_WITHOUT_V1 = ("unshare", "--mount", "sh", "-c", 'umount -a -t cgroup && exec "$@"', "sh")
"""Runs a command in a mount namespace that has only the cgroups of v2."""

WAYS = (
    ("no control groups", "none", False),
    ("a control group of v2", V2, False),
    ("the control groups of this host", "auto", False),
    ("the same with CPU and memory limits", "auto", True),
)
"""What is measured of each worker: a name, the limiter, and whether jobs have limits."""


def bare(number: int, idle: float) -> Measured:
    """Measure posix_spawn and waitpid."""
    times, before = [], own_cpu_seconds()
    for _ in range(number):
        time.sleep(idle)
        times.append(1000 * timed(spawn_and_wait))
    return times, 1000 * (own_cpu_seconds() - before) / number


class Embedded:
    """A Worker in another process, with another Python: embedded.py."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands, self._answers = process.stdin, process.stdout
        self._answers.readline()
        self._processes = {"worker": process.pid, **supervisor_processes(home)}

    def measure(self, number: int, idle: float) -> Measured:
        """Measure starts of jobs, each until it is removed."""
        before = self._cpu()
        print(number, idle, file=self._commands, flush=True)
        times = json.loads(self._answers.readline())
        return times, 1000 * (self._cpu() - before) / number

    def _cpu(self) -> float:
        """Return the CPU seconds of all processes, and of the jobs that have ended."""
        jobs = cpu_seconds_of_children(self._processes["supervisor"])
        return jobs + sum(cpu_seconds(pid) for pid in self._processes.values())


@contextmanager
def embedded(python: str, limiter: str, home: Path, *, limited: bool) -> Iterator[Embedded]:
    """Run a Worker with this Python."""
    prefix = _WITHOUT_V1 if limiter == V2 else ()
    name = "cgroups" if limiter == V2 else limiter
    script = str(Path(__file__).parent / "embedded.py")
    command = [*prefix, python, script, name, str(int(limited)), str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Embedded(process, home)


def rows(ways: dict[str, Callable[[int, float], Measured]], idle: float) -> list[dict[str, str | float]]:
    """Measure all ways in each round."""
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, measure in ways.items():
            found[name].append(measure(STARTS, idle))
    result: list[dict[str, str | float]] = []
    limit = limit_cpu = 0.0
    for name, rounds in found.items():
        times = list(chain.from_iterable(taken for taken, _ in rounds))
        p50, cpu = statistics.median(times), statistics.mean(each for _, each in rounds)
        limit, limit_cpu = limit or p50, limit_cpu or cpu
        result.append(
            {
                "start": name,
                "before it": f"{idle * 1000:.0f} ms idle",
                "p50 ms": p50,
                "p99 ms": percentile(times, 99),
                "p50 x limit": p50 / limit,
                "CPU ms": cpu,
                "CPU x limit": cpu / limit_cpu,
            }
        )
    return result


def main() -> None:
    """Measure every kind of start, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", metavar="PYTHON", help="measure the worker of this Python too")
    other = parser.parse_args().beside
    workers = {"worker": sys.executable} | ({"other worker": other} if other else {})
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        ways: dict[str, Callable[[int, float], Measured]] = {"posix_spawn and wait": bare}
        for number, (way, limiter, limited) in enumerate(WAYS):
            for name, python in workers.items():
                home = Path(directory) / f"{number} {name}"
                process = embedded(python, limiter, home, limited=limited)
                ways[f"{name}, {way}"] = stack.enter_context(process).measure
        title = f"Latency and CPU of {ROUNDS * STARTS} starts each"
        report("placement", title, [*rows(ways, 0.0), *rows(ways, IDLE)])


if __name__ == "__main__":
    main()
