"""The wall time of commands, compared with a Python that imports ssl and asyncio, as every client must.

The commands are installed from a wheel: an editable installation adds a finder that users do not have.
"""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from installation import Installation, install_wheel, installed
from report import report

from worker.core.model.job import new_job_id

ROUNDS = 20
LIMIT = "python -c 'import ssl, asyncio'"


def _seconds(installation: Installation, command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=installation.env, check=False, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure all commands in each round, and report the medians."""
    with tempfile.TemporaryDirectory() as directory, installed() as installation:
        programs = install_wheel(Path(directory))
        job = installation.worker("start", "true").split()[1]
        installation.worker("wait", job)
        unknown = str(new_job_id())
        worker = [str(programs / "worker")]
        commands = {
            LIMIT: [str(programs / "python"), "-c", "import ssl, asyncio"],
            "worker --help": [*worker, "--help"],
            "worker query": [*worker, "query", job],
            "worker stream": [*worker, "stream", job],
            "worker list": [*worker, "list"],
            "worker wait": [*worker, "wait", job],
            "worker stop (finished job)": [*worker, "stop", job],
            "worker update (finished job)": [*worker, "update", "--pids", "9", job],
            "worker remove (unknown job)": [*worker, "remove", unknown],
            "worker start": [*worker, "start", "true"],
            "worker run": [*worker, "run", "true"],
            "worker run --no-split-output": [*worker, "run", "--no-split-output", "true"],
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
