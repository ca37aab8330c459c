"""The wall time of commands, beside a Python that imports ssl and asyncio, which any client needs.

The commands are those of a wheel: an editable installation has a finder that users do not have.
"""

import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

from installation import Installation, installed
from report import report

ROUNDS = 20
LIMIT = "python -c 'import ssl, asyncio'"


def _seconds(installation: Installation, command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=installation.env, check=False, capture_output=True)
    return time.perf_counter() - began


def _install_wheel(directory: Path) -> Path:
    """Build the wheel, install it into an environment of its own, and return where its programs are.

    What it depends on is that of the environment that runs the benchmark.
    """
    root, home = Path(__file__).parent.parent, directory / "venv"
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(directory), str(root)]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(home, symlinks=True)
    (wheel,) = directory.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (site,) = home.glob("lib/python3*/site-packages")
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def main() -> None:
    """Measure in turn, round after round, and report the medians."""
    with tempfile.TemporaryDirectory() as directory, installed() as installation:
        programs = _install_wheel(Path(directory))
        job = installation.worker("start", "true").split()[1]
        installation.worker("wait", job)
        worker = [str(programs / "worker")]
        commands = {
            LIMIT: [str(programs / "python"), "-c", "import ssl, asyncio"],
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
