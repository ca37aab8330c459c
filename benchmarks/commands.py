"""The wall time of commands, beside a Python that imports ssl and asyncio, which any client needs."""

import statistics
import subprocess
import sys
import time

from installation import Installation, installed
from report import report

ROUNDS = 20
LIMIT = "python -c 'import ssl, asyncio'"


def _seconds(installation: Installation, command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=installation.env, check=False, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure in turn, round after round, and report the medians."""
    with installed() as installation:
        job = installation.worker("start", "true").split()[1]
        installation.worker("wait", job)
        worker = [sys.executable, "-P", "-m", "worker.cli.main"]
        commands = {
            LIMIT: [sys.executable, "-c", "import ssl, asyncio"],
            "worker --help": [*worker, "--help"],
            "worker query": [*worker, "query", job],
            "worker stream": [*worker, "stream", job],
            "worker list": [*worker, "list"],
            "worker wait": [*worker, "wait", job],
            "worker stop (of a job that is over)": [*worker, "stop", job],
            "worker start": [*worker, "start", "true"],
            "worker run": [*worker, "run", "true"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(_seconds(installation, command))
        rows: list[dict[str, str | float]] = [
            {
                "command": name,
                "p50 ms": 1000 * statistics.median(taken),
                "x limit": statistics.median(
                    one / limit for one, limit in zip(taken, times[LIMIT], strict=True)
                ),
            }
            for name, taken in times.items()
        ]
        report("commands", f"Wall time of commands, {ROUNDS} rounds", rows)


if __name__ == "__main__":
    main()
