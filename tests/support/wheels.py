"""Builds distributions, and installs wheels in environments of their own."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from .elf import AARCH64, EXECUTABLE, LOAD, STACK, WRITABLE, X86_64, read_executable
from .installation import Installation

ROOT = Path(__file__).parent.parent.parent

ZYGOTE = "worker/linux/zygote/zygote"


class Build:
    """What building a distribution has given."""

    def __init__(self, out: Path, done: "subprocess.CompletedProcess[str]") -> None:
        self._out = out
        self.code = done.returncode
        self.printed = done.stdout + done.stderr

    @property
    def file(self) -> Path:
        """The distribution."""
        assert self.code == 0, self.printed
        (file,) = self._out.iterdir()
        return file

    @property
    def tag(self) -> tuple[str, str, str]:
        """The tag in the name of the wheel: Pythons, ABIs and platforms."""
        *_, pythons, abis, platforms = self.file.stem.split("-")
        return pythons, abis, platforms

    @property
    def names(self) -> list[str]:
        """The names of all files in the wheel."""
        with zipfile.ZipFile(self.file) as archive:
            return archive.namelist()

    def read(self, name: str) -> str:
        """Return the text of a file in the wheel."""
        with zipfile.ZipFile(self.file) as archive:
            return archive.read(name).decode()

    def extract_zygote(self, directory: Path) -> Path:
        """Extract the zygote with its permissions, as installers do, and return its path."""
        with zipfile.ZipFile(self.file) as archive:
            program = Path(archive.extract(ZYGOTE, directory))
            program.chmod(archive.getinfo(ZYGOTE).external_attr >> 16)
        return program


def build(source: Path, out: Path, *options: str, **environment: str) -> Build:
    """Build a distribution as `pip install` does."""
    env = {name: value for name, value in os.environ.items() if name not in {"CC", "WORKER_WHEEL"}}
    command = [sys.executable, "-m", "build", *options, "--outdir", str(out), str(source)]
    done = subprocess.run(command, env=env | environment, capture_output=True, text=True, check=False)
    return Build(out, done)


def assert_usable_anywhere(program: Path, machine: int) -> None:
    """Assert that a zygote needs no libc, no interpreter, no page size, and has no writable code."""
    executable = read_executable(program)
    assert machine == executable.machine
    assert executable.static
    writable_code = EXECUTABLE | WRITABLE
    for segment in executable.segments:
        if segment.kind in {LOAD, STACK}:
            assert segment.flags & writable_code != writable_code
        if segment.kind == LOAD:
            assert {X86_64: 1 << 12, AARCH64: 1 << 16}[machine] <= segment.alignment


class Environment:
    """A virtual environment in which a wheel is installed, without the source tree."""

    def __init__(self, home: Path, wheel: Path) -> None:
        self.python = home / "bin" / "python"
        self.worker = home / "bin" / "worker"
        venv.create(home)
        install = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*install, "--no-deps", str(wheel)], check=True, cwd=home)
        (self.packages,) = home.glob("lib/python3*/site-packages")
        # The dependencies are those of the environment that runs the tests. The .pth files of that one, one
        # of which leads to the source tree, are not read.
        (dependencies,) = Path(sys.prefix).glob("lib/python3*/site-packages")
        (self.packages / "dependencies.pth").write_text(f"{dependencies}\n")

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run its Python outside of the source tree."""
        return subprocess.run(
            [self.python, *arguments], cwd=self.packages, capture_output=True, text=True, check=False
        )


class WheelInstallation(Installation):
    """An installation of a wheel; its generation is not that of the source tree."""

    def __init__(self, home: Path, environment: Environment) -> None:
        super().__init__(home)
        self.command = [str(environment.worker)]

    def generation(self) -> Path:
        """Return the directory of its supervisor."""
        return next((self.home / "supervisor").glob("*/"), self.home / "none")
