"""The wheel for this machine is complete: build it with and without a compiler, install it, use it."""

import platform
import re
import tomllib
from pathlib import Path

from worker.cli.main import COMMANDS

from ..support.elf import AARCH64, X86_64
from ..support.wheels import (
    ROOT,
    ZYGOTE,
    Build,
    Environment,
    WheelInstallation,
    assert_usable_anywhere,
    build,
)
from ..support.zygotes import Outcome, Starter, shell

MACHINE = platform.machine()


def test_contents(native: Build) -> None:
    """The wheel contains every package and the .proto files, but no tests, C sources and build files."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in packages:
        assert f"{package.replace('.', '/')}/__init__.py" in native.names
    data = {"worker/py.typed", "worker/proto/worker.proto", "worker/proto/descriptors.binpb", ZYGOTE}
    assert data <= set(native.names)
    unwanted = ("tests", "worker/tests", "worker/build")
    assert [] == [name for name in native.names if name.startswith(unwanted) or name.endswith((".c", ".h"))]
    assert ["worker/__init__.py"] == [
        name for name in native.names if name.count("/") == 1 and name.endswith(".py")
    ]


def test_the_man_pages(native: Build, client: Build) -> None:
    """Both wheels have a page for each command, where man(1) finds it, and worker(1) names them."""
    for build_ in (native, client):
        pages = {name.rpartition("/")[2] for name in build_.names if "/share/man/man1/" in name}
        assert {"worker.1", *(f"worker-{each.name}.1" for each in COMMANDS)} == pages
        assert any(name.endswith("/share/man/man5/worker.toml.5") for name in build_.names)
        (overview,) = (name for name in build_.names if name.endswith("/share/man/man1/worker.1"))
        named = re.findall(r"^worker([a-z\\-]+)\(1\):", build_.read(overview), re.MULTILINE)
        assert [each.name for each in COMMANDS] == [name.replace("\\", "")[1:] for name in named]


def test_it_needs_no_particular_python_or_libc(native: Build, tmp_path: Path) -> None:
    """The tag names any Python 3, and glibc and musl from their oldest version on."""
    oldest = {"x86_64": "2_5", "aarch64": "2_17"}[MACHINE]
    assert ("py3", "none") == native.tag[:2]
    assert {f"manylinux_{oldest}_{MACHINE}", f"musllinux_1_0_{MACHINE}"} <= set(native.tag[2].split("."))
    program = native.extract_zygote(tmp_path)
    assert_usable_anywhere(program, {"x86_64": X86_64, "aarch64": AARCH64}[MACHINE])


def test_the_compiler_of_the_machine_is_used(native: Build) -> None:
    """Nothing is downloaded where `cc` compiles the zygote."""
    assert "ziglang" not in native.printed


def test_without_a_compiler(source: Path, no_compiler: dict[str, str], tmp_path: Path) -> None:
    """Where nothing on PATH compiles, the build gets ziglang from the package index; the zygote works."""
    built = build(source, tmp_path / "out", "--wheel", **no_compiler, HOME=str(tmp_path / "home"))
    program = built.extract_zygote(tmp_path)
    assert "ziglang" in built.printed
    assert_usable_anywhere(program, {"x86_64": X86_64, "aarch64": AARCH64}[MACHINE])
    starter = Starter(tmp_path, str(program))
    assert Outcome(3, "", b"hi\n") == starter.start(shell("echo hi; exit 3"))
    starter.zygote.close()


def test_without_any_compiler(source: Path, no_compiler: dict[str, str], tmp_path: Path) -> None:
    """A build that cannot get a compiler fails, and names what to install."""
    options = ("--wheel", "--no-isolation", "--skip-dependency-check")
    built = build(source, tmp_path / "out", *options, **no_compiler)
    assert 0 != built.code
    assert f"error: the zygote, a C program, cannot be compiled for {MACHINE}" in built.printed
    assert "Install a C compiler" in built.printed
    assert "ziglang" in built.printed


def test_a_compiler_that_fails(source: Path, no_compiler: dict[str, str], tmp_path: Path) -> None:
    """The message of the compiler is shown."""
    (tmp_path / "cc").write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    options = ("--wheel", "--no-isolation", "--skip-dependency-check")
    built = build(source, tmp_path / "out", *options, PATH=str(tmp_path))
    assert 0 != built.code
    assert "Tried:\ncc: no space left" in built.printed


def test_an_architecture_without_a_zygote(source: Path, tmp_path: Path) -> None:
    """The build fails, and names the client as the alternative."""
    built = build(source, tmp_path / "out", "--wheel", "--no-isolation", WORKER_WHEEL="riscv64")
    assert 0 != built.code
    assert "error: there is no server for riscv64, only for x86_64 and aarch64" in built.printed
    assert "set WORKER_WHEEL=client" in built.printed


def test_the_library(environment: Environment) -> None:
    """The library works when installed from the wheel, without the source tree."""
    program = f"""
import worker, asyncio
from worker import JobSpec, Worker
from worker.core.testing import FakeLimiter, FakeSpawner, MemoryOutputStore
assert worker.__file__.startswith({str(environment.packages)!r}), worker.__file__
async def main():
    w = Worker(spawner=FakeSpawner(), limiter=FakeLimiter(), outputs=MemoryOutputStore())
    job = await w.start(JobSpec("true"))
    print((await w.wait(job)).state)
asyncio.run(main())
"""
    done = environment.run("-c", program)
    assert "exited\n" == done.stdout, done.stderr


def test_the_command(server: WheelInstallation) -> None:
    """The server and its zygote work when installed from the wheel, without the source tree."""
    job = server.start("sh", "-c", "echo hi; exit 3")
    assert b"hi\n" == server.stream(job)
    assert 3 == server.wait(job)["exit_code"]
    zygote = Path(f"/proc/{server.zygote_pid()}/exe").resolve()
    assert zygote.parts[-len(Path(ZYGOTE).parts) :] == Path(ZYGOTE).parts
    assert not zygote.is_relative_to(ROOT)


def test_without_the_zygote(native: Build, tmp_path: Path) -> None:
    """A server whose zygote is missing does not start, and states it."""
    environment = Environment(tmp_path / "environment", native.file)
    (environment.packages / ZYGOTE).unlink()
    installation = WheelInstallation(tmp_path / "home", environment)
    installation.worker("certs", "init", "--key-type", "p256")
    refused = installation.run("serve")
    assert 1 == refused.returncode
    assert b"zygote/zygote is missing: install the package again" in refused.stderr
