"""The wheel for aarch64: its zygote runs under qemu-user, and clones children that execute commands.

qemu-user passes the system calls of the program on to the kernel of this machine, and so a child executes
commands of this machine. It lacks CLONE_PARENT: that flag is removed from the program.
"""

import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from worker.core.model.job import JobSpec
from worker.core.ports import Placement
from worker.linux.ipc.encoding import SpawnPlan
from worker.linux.state.history import read_history

from ..support.elf import AARCH64
from ..support.wheels import Build, assert_usable_anywhere, build
from ..support.zygotes import PATIENCE, Outcome, Starter, has_ended, shell

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="it is tested on x86_64, under qemu-user"
)

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")

CLONE_PARENT, SIGCHLD = 0x8000, 17


@pytest.fixture(scope="module")
def wheel(source: Path, no_compiler: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The wheel, compiled by ziglang."""
    return build(
        source, tmp_path_factory.mktemp("aarch64"), "--wheel", WORKER_WHEEL="aarch64", **no_compiler
    )


@pytest.fixture(scope="module")
def emulated(wheel: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The zygote as a program for this machine."""
    directory = tmp_path_factory.mktemp("emulated")
    program = wheel.extract_zygote(directory)
    program.write_bytes(without_clone_parent(program.read_bytes()))
    script = directory / "zygote"
    script.write_text(f'#!/bin/sh\nexec {emulator()} -0 zygote {program} "$@"\n')
    script.chmod(0o755)
    return str(script)


def emulator() -> str:
    """Return qemu-aarch64; as root on Debian, install it if it is missing."""
    if not shutil.which("qemu-aarch64") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        # Not qemu-user-static: that one makes the kernel execute programs of all architectures.
        install = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", "install", "--yes"]
        subprocess.run([*install, "--no-install-recommends", "qemu-user"], check=False)
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if found is None:
        pytest.skip("qemu-aarch64 is missing: apt-get install qemu-user")
    return found


def without_clone_parent(program: bytes) -> bytes:
    """Remove the flag from the only instruction that loads the flags of clone(2) (MOVZ Rd, #imm16)."""
    code = list(struct.unpack(f"<{len(program) // 4}I", program[: len(program) // 4 * 4]))
    load = 0x52800000 | (CLONE_PARENT | SIGCHLD) << 5
    (place,) = (index for index, word in enumerate(code) if word & 0x7FFFFFE0 == load)
    code[place] &= ~(CLONE_PARENT << 5)
    return struct.pack(f"<{len(code)}I", *code) + program[4 * len(code) :]


class EmulatedStarter(Starter):
    """Starts commands with a zygote whose children are its own, not its parent's."""

    def wait(self, pid: int) -> int:
        """Wait for the end of a child, and read its exit code, field 52 of proc_pid_stat(5)."""
        pidfd = os.pidfd_open(pid)
        assert has_ended(pidfd, PATIENCE), "the child does not end"
        os.close(pidfd)
        return os.waitstatus_to_exitcode(int(Path(f"/proc/{pid}/stat").read_text().split()[51]))


@pytest.fixture
def starter(emulated: str, tmp_path: Path) -> Iterator[Starter]:
    """Start commands with the zygote for aarch64."""
    made = EmulatedStarter(tmp_path, emulated)
    yield made
    made.zygote.close()


def test_it_needs_no_particular_python_or_libc(wheel: Build, tmp_path: Path) -> None:
    """The tag names any Python 3, and glibc and musl from the oldest version for aarch64 on."""
    assert ("py3", "none") == wheel.tag[:2]
    assert {"manylinux_2_17_aarch64", "musllinux_1_0_aarch64"} <= set(wheel.tag[2].split("."))
    assert_usable_anywhere(wheel.extract_zygote(tmp_path), AARCH64)


def test_the_wheels_differ_in_the_zygote_only(wheel: Build, native: Build) -> None:
    """The modules are those of the other wheel."""
    assert sorted(native.names) == sorted(wheel.names)


def test_it_is_not_used_on_other_machines(wheel: Build, tmp_path: Path) -> None:
    """Pip does not install it on this machine."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--target",
        str(tmp_path),
        str(wheel.file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is not a supported wheel on this platform" in done.stderr


def test_children(starter: Starter) -> None:
    """A child gets arguments, environment and output, in a session of its own, and records itself."""
    script = 'printf "%s|" "$0" "$#" "$2" "$NAME"; read -r stat < /proc/$$/stat; echo "$stat"; exit 3'
    code, failure, output = starter.start(shell(script, "zero", "", "\u00e4", env={"NAME": "value"}))
    assert (3, "") == (code, failure)
    *words, stat = output.decode().strip().split("|")
    assert ["zero", "2", "\u00e4", "value"] == words
    pid, *_, session = stat.split()[:6]
    history = read_history(starter.history)
    assert history is not None
    assert pid == session == str(history.start.pid)


def test_several_children(starter: Starter) -> None:
    """One zygote serves many requests."""
    outputs = [starter.start(shell(f"echo {number}")).output for number in range(20)]
    assert [f"{number}\n".encode() for number in range(20)] == outputs


def test_a_large_plan(starter: Starter) -> None:
    """Arguments of a megabyte arrive."""
    plan = shell('printf "%s" "$*" | wc -c', "zero", *("y" * 100_000 for _ in range(10)))
    assert b"1000009\n" == starter.start(plan).output


@pytest.mark.parametrize(
    ("plan", "failure"),
    [
        (SpawnPlan(JobSpec("/nowhere/program")), f"exec {errno.ENOENT}"),
        (SpawnPlan(JobSpec("passwd", env={"PATH": "/etc:/nowhere"})), f"exec {errno.EACCES}"),
        (
            replace(shell(":"), spec=JobSpec("true", working_directory="/x")),
            f"working directory {errno.ENOENT}",
        ),
        (replace(shell(":"), placement=Placement(None, ("/x",))), f"cgroup {errno.ENOENT}"),
    ],
    ids=str,
)
def test_failures(starter: Starter, plan: SpawnPlan, failure: str) -> None:
    """A child that cannot execute its command reports the step and the errno."""
    assert Outcome(127, failure, b"") == starter.start(plan)


def test_a_start_that_was_revoked(starter: Starter) -> None:
    """Without its provisional history a child never executes the command."""
    assert Outcome(127, f"record {errno.ENOENT}", b"") == starter.start(shell("echo ran"), revoked=True)


@AS_ROOT
def test_the_user(starter: Starter) -> None:
    """The child changes user, group and groups."""
    plan = replace(shell("id -u; id -g; id -G"), uid=12345, gid=23456, groups=(23456, 34567))
    assert b"12345\n23456\n23456 34567\n" == starter.start(plan).output
