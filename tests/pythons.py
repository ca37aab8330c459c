"""Run the unit tests under each supported Python that this machine has (`make pythons`), or the newest.

pythons.py all|newest

The Python of `.venv` is covered by `make unit`. Each other version gets its own environment,
`.venv-3.X`, and runs the property tests with few examples. A missing version is reported, not an error.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
MINORS = range(11, 15)
"""Supported versions: 3.11 to 3.14."""

# Debian and Ubuntu package ensurepip, which venv needs, separately.
PROBE = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:3])))"
PYTEST = ("--quiet", "--numprocesses=auto", "--dist=worksteal", "--hypothesis-profile=quick")


@dataclass(frozen=True)
class Interpreter:
    """A Python that runs and can create environments."""

    path: Path
    version: str


def candidates(minor: int, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths at which Python 3.`minor` may be installed: those on PATH, then pyenv's."""
    name = f"python3.{minor}"
    for directory in environ.get("PATH", "").split(os.pathsep):
        if found := shutil.which(name, path=directory):
            yield Path(found)
    pyenv = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/3.{minor}.*/bin/{name}"), reverse=True)


def probe(path: Path) -> str | None:
    """Return the version of an interpreter, or None if it does not run or has no venv."""
    # A shim of pyenv exists for versions that are installed but not selected; it fails when it is run.
    try:
        done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def find(minor: int, environ: Mapping[str, str]) -> Interpreter | None:
    """Return the first usable interpreter of Python 3.`minor`."""
    for path in candidates(minor, environ):
        version = probe(path)
        if version is not None and version.startswith(f"3.{minor}."):
            return Interpreter(path, version)
    return None


def requirements(group: str) -> list[str]:
    """Return the requirements of a dependency group; pip before 25.1 has no --group."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    found = []
    for each in groups[group]:
        found += [each] if isinstance(each, str) else requirements(each["include-group"])
    return found


def prepare(minor: int, interpreter: Interpreter) -> Path:
    """Create or update an environment, unless its stamp is current; return its Python."""
    home = ROOT / f".venv-3.{minor}"
    python, stamp = home / "bin" / "python", home / "ready"
    origin = f"{interpreter.path} {interpreter.version}\n"
    current = origin + hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    before = stamp.read_text() if stamp.exists() else ""
    if before != current:
        if not before.startswith(origin):
            subprocess.run([interpreter.path, "-m", "venv", "--clear", home], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--editable", ROOT, *requirements("tests")], check=True)
        stamp.write_text(current)
    return python


def main(which: str) -> int:
    """Test under all versions or the newest, print what was found, and return the exit status."""
    report, failed, tested = [], False, False
    for minor in reversed(MINORS):
        label = f"Python 3.{minor}:"
        if sys.version_info[:2] == (3, minor):
            report.append(f"{label} .venv, tested by `make unit`")
            continue
        interpreter = find(minor, os.environ)
        if interpreter is None:
            report.append(f"{label} not found")
            continue
        if tested and which == "newest":
            report.append(f"{label} {interpreter.version} ({interpreter.path}): tested by `make pythons`")
            continue
        tested = True
        print(f"{label} {interpreter.path}", flush=True)
        python = prepare(minor, interpreter)
        done = subprocess.run([python, "-m", "pytest", *PYTEST, "tests/unit"], cwd=ROOT, check=False)
        outcome = "passed" if done.returncode == 0 else "FAILED"
        report.append(f"{label} {interpreter.version} ({interpreter.path}): {outcome}")
        failed |= done.returncode != 0
    print("\n".join(report))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
