"""Input of a job, and keys typed into its terminal, compared with a pipe and with ssh(1) to this host."""

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from installation import installed
from private_sshd import private_sshd
from report import percentile, report

SIZE = 200_000_000
ROUNDS = 3
KEYS = 300
KEY_ROUNDS = 3

Ways = Mapping[str, tuple[Sequence[str], Mapping[str, str] | None]]
"""The words of a command before a script for sh, and its environment, by name."""


def _throughput(ways: Ways) -> list[dict[str, str | float]]:
    """Return the MB/s of `cat > /dev/null` that each way passes the input to."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (words, env) in ways.items():
            command = [*words, "cat > /dev/null"]
            began = time.perf_counter()
            with subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source:
                subprocess.run(command, stdin=source.stdout, env=env, check=True)
            found[name].append(SIZE / 1e6 / (time.perf_counter() - began))
    limit = statistics.median(found["a pipe"])
    return [
        {
            "input through": name,
            "MB/s": statistics.median(rates),
            "x pipe": statistics.median(rates) / limit,
        }
        for name, rates in found.items()
    ]


@contextmanager
def _on_terminal(command: Sequence[str], env: Mapping[str, str] | None) -> Iterator[int]:
    """Run a command on a terminal of its own; yields the master."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(command[0], list(command), dict(env or os.environ))
    try:
        yield master
    finally:
        with suppress(OSError):
            os.write(master, b"\x04")
        os.close(master)
        os.waitpid(pid, 0)


def _echo_times(command: Sequence[str], env: Mapping[str, str] | None) -> list[float]:
    """Return the milliseconds from each key to its echo by `cat` without local echo."""
    times = []
    with _on_terminal(command, env) as master:
        seen = b""
        while b"ready" not in seen:
            seen += os.read(master, 1000)
        for _ in range(KEYS):
            began = time.perf_counter()
            os.write(master, b"k")
            while b"k" not in os.read(master, 1000):
                pass
            times.append(1000 * (time.perf_counter() - began))
    return times


def _latency(ways: Ways) -> list[dict[str, str | float]]:
    """Return the percentiles of the time from a key to its echo, of the terminal of each way."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(KEY_ROUNDS):
        for name, (words, env) in ways.items():
            found[name] += _echo_times([*words, "echo ready; exec cat"], env)
    rows: list[dict[str, str | float]] = []
    for name, times in found.items():
        row: dict[str, str | float] = {"a key echoed by": name, "p50 ms": statistics.median(times)}
        row["p99 ms"] = percentile(times, 99)
        if "ssh" in found:
            row["p50 x ssh"] = statistics.median(times) / statistics.median(found["ssh"])
        rows.append(row)
    return rows


def main() -> None:
    """Measure and report."""
    worker = str(Path(sys.executable).with_name("worker"))
    with (
        tempfile.TemporaryDirectory() as directory,
        installed() as installation,
        private_sshd(Path(directory)) as ssh,
    ):
        worker_run = [worker, "run"]
        script = ["sh", "-c"]
        piped: Ways = {
            "a pipe": (script, None),
            **({"ssh": (ssh, None)} if ssh else {}),
            "worker run -i": ([*worker_run, "-i", *script], installation.env),
        }
        typed: Ways = {
            "a terminal": (script, None),
            **({"ssh": ([ssh[0], "-tt", *ssh[1:]], None)} if ssh else {}),
            "worker run -it": ([*worker_run, "-it", *script], installation.env),
        }
        report("input", f"Input of {SIZE // 1_000_000} MB, medians of {ROUNDS} rounds", _throughput(piped))
        title = f"Keys typed into a terminal, {KEYS} in each of {KEY_ROUNDS} rounds"
        report("keys", title, _latency(typed))


if __name__ == "__main__":
    main()
