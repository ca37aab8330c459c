"""The worker as a user installs it: a built wheel and its dependencies, for the guest's Python."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .machine import Guest

ROOT = Path(__file__).parents[2]
TEST_REQUIREMENTS = ("pytest", "pytest-asyncio", "hypothesis")
CHECKOUT = "/opt/checkout"
"""The directory of the tests in the guest."""


@dataclass(frozen=True)
class Payload:
    """A directory of packages for a version of Python."""

    site: Path
    version: str

    def install(self, guest: Guest) -> None:
        """Install the packages for the guest's Python, and the command `worker`."""
        packages = f"/usr/local/lib/python{self.version}/dist-packages"
        guest.push(self.site, packages)
        ours = sys.version_info[:2] == tuple(int(part) for part in self.version.split("."))
        if not ours:  # otherwise pip has compiled them
            guest.check("python3", "-m", "compileall", "-q", packages, timeout=600)
        guest.check("sed", f"1c #!/usr/bin/python{self.version}", f"{packages}/bin/worker", "-i")
        guest.check("ln", "-s", f"{packages}/bin/worker", "/usr/local/bin/worker")

    def install_tests(self, guest: Guest) -> None:
        """Install the tests that run in the guest."""
        guest.push(ROOT / "pyproject.toml", CHECKOUT)
        guest.push(ROOT / "docs/reference/job-environment.md", f"{CHECKOUT}/docs/reference")
        for folder in ("support", "integration", "guest/inside"):
            guest.push(ROOT / "tests" / folder, f"{CHECKOUT}/tests/{folder}")


def build(directory: Path, version: str) -> Payload:
    """Build the packages below a directory."""
    site = directory / "site"
    # Through a source distribution: it does not contain files that earlier builds left in the tree.
    _run("build", "--outdir", str(directory), str(ROOT))
    (wheel,) = directory.glob("*.whl")
    # Packages are downloaded as wheels only, so the host's Python may have another version.
    platforms = [f"--platform={name}" for name in ("manylinux_2_28_x86_64", "manylinux2014_x86_64")]
    _run(
        *("pip", "install", "--quiet", "--only-binary=:all:", f"--python-version={version}", *platforms),
        *("--target", str(site), str(wheel), *TEST_REQUIREMENTS),
    )
    return Payload(site, version)


def _run(module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
