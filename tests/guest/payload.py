"""The worker as its users get it, a built wheel with what it depends on, for the guest's Python."""

import subprocess
import sys
from pathlib import Path

from .machine import Guest

ROOT = Path(__file__).parents[2]
TEST_REQUIREMENTS = ("pytest", "pytest-asyncio", "hypothesis")
CHECKOUT = "/opt/checkout"
"""Where the tests that run in the guest lie there."""


def build(directory: Path, version: str) -> Path:
    """Return a directory of packages for a version of Python, below the one that is given."""
    site = directory / "site"
    # By way of a source distribution: what earlier builds have left in the tree is not in it.
    _run("build", "--outdir", str(directory), str(ROOT))
    (wheel,) = directory.glob("*.whl")
    # No package of the guest is downloaded as source, so the host's Python may be another one.
    platforms = [f"--platform={name}" for name in ("manylinux_2_28_x86_64", "manylinux2014_x86_64")]
    _run(
        *("pip", "install", "--quiet", "--only-binary=:all:", f"--python-version={version}", *platforms),
        *("--target", str(site), str(wheel), *TEST_REQUIREMENTS),
    )
    return site


def install(guest: Guest, site: Path, version: str) -> None:
    """Install packages for the guest's version of Python, and the tests."""
    packages = f"/usr/local/lib/python{version}/dist-packages"
    guest.push(site, packages)
    if sys.version_info[:2] != tuple(
        int(part) for part in version.split(".")
    ):  # else pip has compiled them
        guest.check("python3", "-m", "compileall", "-q", packages, timeout=600)
    guest.check("sed", f"1c #!/usr/bin/python{version}", f"{packages}/bin/worker", "-i")
    guest.check("ln", "-s", f"{packages}/bin/worker", "/usr/local/bin/worker")
    guest.push(ROOT / "pyproject.toml", CHECKOUT)
    for folder in ("support", "integration", "guest/inside"):
        guest.push(ROOT / "tests" / folder, f"{CHECKOUT}/tests/{folder}")


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
