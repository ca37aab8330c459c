"""Compiles the zygote, the C program in linux/zygote/, with whatever compiler the machine has."""

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "linux" / "zygote"
PROGRAM = SOURCE / "zygote"

ARCHITECTURES = ("x86_64", "aarch64")

_FLAGS = [
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-Wl,-z,noexecstack",
    "-Wl,--build-id=none",
    "-s",
]
_ZIG = "ziglang"
"""A distribution on the package index with a C compiler (100 MB)."""


class NoCompiler(Exception):
    """No compiler on this machine builds the zygote."""


def machine() -> str:
    """Return the architecture of this machine."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())


def needs_zig(architecture: str) -> bool:
    """Whether no compiler of this machine builds the zygote; tried out, as its headers may be missing."""
    with tempfile.TemporaryDirectory() as scratch:
        return not any(_builds(command, Path(scratch) / "zygote") for command in _local(architecture))


def compile_zygote(architecture: str, program: Path = PROGRAM) -> None:
    """Compile the zygote; NoCompiler, with what the compilers print, if none can."""
    commands = _local(architecture)
    if importlib.util.find_spec(_ZIG):
        commands.append([sys.executable, "-m", _ZIG, "cc", "-target", f"{architecture}-linux-musl"])
    printed = []
    for command in commands:
        done = _run(command, program)
        if done.returncode == 0:
            return
        printed.append(f"{shlex.join(command)}: {done.stderr}")
    raise NoCompiler(
        "\n".join(printed)
        or f"there is no C compiler for {architecture}: install one, or pip install {_ZIG}"
    )


def _local(architecture: str) -> list[list[str]]:
    """Return the compilers for an architecture: $CC, cc, or a cross compiler."""
    if "CC" in os.environ:
        return [shlex.split(os.environ["CC"])]
    own = ["cc", "gcc", "clang"] if architecture == machine() else []
    found = [name for name in (*own, f"{architecture}-linux-gnu-gcc") if shutil.which(name)]
    return [[name] for name in found[:1]]


def _builds(command: list[str], program: Path) -> bool:
    return _run(command, program).returncode == 0


def _run(command: list[str], program: Path) -> subprocess.CompletedProcess[str]:
    sources = sorted(SOURCE.glob("*.c"))
    # Not in place: a running zygote has the file open for execution (ETXTBSY).
    new = program.with_name(f".{program.name}.{os.getpid()}")
    try:
        done = subprocess.run(
            [*command, *_FLAGS, "-o", str(new), *map(str, sources)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            new.replace(program)
        return done
    finally:
        new.unlink(missing_ok=True)
