"""Compiles the zygote, the C program in linux/zygote/, with whatever compiler the machine has."""

import importlib.util
import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).parent.parent / "linux" / "zygote"

ARCHITECTURES = {"x86_64": 62, "aarch64": 183}
"""The number of each in an executable: e_machine, elf(5)."""

ZIG = "ziglang"
"""A distribution on the package index with a C compiler for all architectures (100 MB)."""

_COMPILE = [
    "-std=gnu11",
    "-Os",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
]
_LINK = ["-nostdlib", "-static", "-no-pie", "-Wl,-z,noexecstack", "-Wl,--build-id=none", "-s"]

_REMEDY = f"""\
Install a C compiler with the headers of Linux 5.9 or later: gcc and libc6-dev on Debian and Ubuntu, gcc and
glibc-devel on Fedora, gcc and linux-headers on Alpine. Or install {ZIG} from the package index, which needs
no root: pip does it by itself unless --no-build-isolation is set."""


class CompilationFailed(Exception):
    """The message is what the compilers printed, and the remedy."""


def compiles(architecture: str) -> bool:
    """Whether a compiler of this machine compiles the zygote; tried, since it may lack headers."""
    with TemporaryDirectory() as scratch:
        try:
            _compile_with(_local_compilers(), architecture, Path(scratch) / "zygote")
        except CompilationFailed:
            return False
    return True


def compile_zygote(architecture: str, program: Path) -> None:
    """Compile the zygote; raise CompilationFailed with the remedy if no compiler can."""
    zig = [[sys.executable, "-m", ZIG, "cc", "-target", f"{architecture}-linux-musl"]]
    _compile_with(
        [*_local_compilers(), *(zig if importlib.util.find_spec(ZIG) else [])], architecture, program
    )


def _local_compilers() -> list[list[str]]:
    """Return the commands to try: $CC, otherwise those that compile for this or another architecture."""
    if command := shlex.split(os.environ.get("CC", "")):
        return [command]
    cross = (f"{architecture}-linux-gnu-gcc" for architecture in ARCHITECTURES)
    return [[name] for name in ("cc", "gcc", "clang", *cross) if shutil.which(name)]


def _compile_with(compilers: Sequence[list[str]], architecture: str, program: Path) -> None:
    tried = []
    for compiler in compilers:
        try:
            return _compile(compiler, architecture, program)
        except CompilationFailed as error:
            tried.append(f"{shlex.join(compiler)}: {error}")
    raise CompilationFailed(
        f"the zygote, a C program, cannot be compiled for {architecture}.\n{_REMEDY} Tried:\n"
        + ("\n".join(tried) or "nothing: there is no compiler")
    )


def _compile(compiler: list[str], architecture: str, program: Path) -> None:
    with TemporaryDirectory() as scratch:
        # Compiled and linked in two steps: with -nostdlib, zig does not find the headers of the kernel.
        objects = [f"{scratch}/{source.stem}.o" for source in sorted(SOURCE.glob("*.c"))]
        for file in objects:
            source = SOURCE / Path(file).with_suffix(".c").name
            _run([*compiler, *_COMPILE, "-c", "-o", file, str(source)], scratch)
        made = Path(scratch) / "zygote"
        _run([*compiler, *_LINK, "-o", str(made), *objects], scratch)
        _check_architecture(made, architecture)
        # Not written in place: a zygote that runs has the file open for execution (ETXTBSY).
        new = program.with_name(".zygote.new")
        shutil.copy(made, new)
        new.replace(program)


def _run(command: list[str], scratch: str) -> None:
    # Otherwise zig leaves its cache in the home directory, which may be missing.
    caches = {"ZIG_GLOBAL_CACHE_DIR": f"{scratch}/zig", "ZIG_LOCAL_CACHE_DIR": f"{scratch}/zig"}
    try:
        done = subprocess.run(
            command, env={**os.environ, **caches}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise CompilationFailed(str(error)) from None
    if done.returncode != 0:
        raise CompilationFailed(done.stderr.strip() or f"exit code {done.returncode}")


def _check_architecture(program: Path, architecture: str) -> None:
    (machine,) = struct.unpack_from("<H", program.read_bytes(), 18)
    if machine != ARCHITECTURES[architecture]:
        raise CompilationFailed("it compiles for another architecture")
