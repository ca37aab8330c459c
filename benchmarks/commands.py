"""The wall time of commands, compared with a Python that imports ssl and asyncio, as every client must.

The commands are installed from a wheel: an editable installation adds a finder that users do not have.
"""

import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from installation import Installation, install_wheel, installed
from report import report

from worker.core.model.job import JobSpec, new_job_id

ROUNDS = 20
JOBS, AT_ONCE = 10_000, 16
LIMIT = "python -c 'import ssl, asyncio'"


def _seconds(installation: Installation, command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=installation.env, check=False, capture_output=True)
    return time.perf_counter() - began


def _measure(installation: Installation, commands: dict[str, list[str]]) -> list[dict[str, str | float]]:
    """Run all commands in each round, and return the rows of their medians."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(_seconds(installation, command))
    return [
        {
            "command": name,
            "p50 ms": 1000 * statistics.median(taken),
            "x limit": statistics.median(
                one / limit for one, limit in zip(taken, times[LIMIT], strict=True)
            ),
        }
        for name, taken in times.items()
    ]


async def _run_jobs(installation: Installation) -> None:
    """Run JOBS jobs to their end."""
    async with installation.client() as client:

        async def some() -> None:
            for _ in range(JOBS // AT_ONCE):
                await (await client.start(JobSpec("true"))).wait()

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def main() -> None:
    """Measure, and report."""
    with tempfile.TemporaryDirectory() as directory, installed() as installation:
        programs = install_wheel(Path(directory))
        job = installation.worker("start", "true").split()[1]
        installation.worker("wait", job)
        unknown = str(new_job_id())
        worker = [str(programs / "worker")]
        limit = {LIMIT: [str(programs / "python"), "-c", "import ssl, asyncio"]}
        rows = _measure(
            installation,
            limit
            | {
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
            },
        )
        report("commands", f"Wall time of commands, {ROUNDS} rounds", rows)
        asyncio.run(_run_jobs(installation))
        rows = _measure(
            installation,
            limit
            | {
                "worker list | head -n 50": ["sh", "-c", f"{worker[0]} list | head -n 50"],
                "worker list -n 50": [*worker, "list", "-n", "50"],
                "worker list": [*worker, "list"],
                "worker query": [*worker, "query", job],
            },
        )
        report("commands_many_jobs", f"The same with {JOBS} jobs on the server", rows)


if __name__ == "__main__":
    main()
