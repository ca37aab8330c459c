"""A command that cannot be executed: the error names what is missing or denied, not only the errno."""

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.installation import Installation

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a job as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user may search; pytest's own are only for their user."""
    with tempfile.TemporaryDirectory(prefix="worker-exec-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def program(path: Path, content: bytes, mode: int = 0o755) -> Path:
    """Make a file that can be executed."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def elf(loader: str, machine: int = 183 if os.uname().machine == "aarch64" else 62) -> bytes:
    """Return the head of an ELF program of 64 bits that needs this dynamic loader."""
    name = loader.encode() + b"\0"
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0x1000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (
        header + struct.pack("<IIQQQQQQ", 3, 4, 120, 120, 120, len(name), len(name), 1) + name + bytes(64)
    )


def failure(shared: Installation, *arguments: str) -> tuple[int, str]:
    """Return exit status and message of `worker run`."""
    done = shared.run("run", *arguments)
    assert b"" == done.stdout
    return done.returncode, done.stderr.decode().removeprefix("worker: ")


CRLF = (
    "its first line ends with CRLF, so that its interpreter would be '/bin/sh\\r'; "
    "convert the file to LF line ends, as dos2unix does"
)
NO_LOADER = (
    "its dynamic loader /lib/ld-other-libc.so.1 does not exist: "
    "it was built for another C library or architecture"
)
NO_FIRST_LINE = (
    "Exec format error: a script must begin with a line that names its interpreter, such as #!/bin/sh"
)


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"#!/bin/sh\r\necho hi\r\n", 127, CRLF),
        (
            b"#!/usr/bin/python2 -u\nprint 1\n",
            127,
            "its first line names the interpreter '/usr/bin/python2', which does not exist",
        ),
        (
            b"#! \t /opt/a\tb\n",
            127,
            "its first line names the interpreter '/opt/a', which does not exist",
        ),
        (b"#!no/such\n", 127, "its first line names the interpreter 'no/such', which does not exist"),
        (b"echo hi\n", 126, NO_FIRST_LINE),
        (b"\n#!/bin/sh\necho hi\n", 126, NO_FIRST_LINE),
        (
            b"\xef\xbb\xbf#!/bin/sh\necho hi\n",
            126,
            "Exec format error: it begins with a byte order mark (BOM), which must not precede #!",
        ),
        (
            b"#!\necho hi\n",
            126,
            "Exec format error: its first line names no interpreter; it must be like #!/bin/sh",
        ),
        (b"", 126, "Exec format error: the file is empty"),
        (b"\0\1\2", 126, "Exec format error"),
        (
            elf("/lib/ld-other-libc.so.1"),
            127,
            NO_LOADER,
        ),
        (
            elf("/lib/ld.so", 22),
            126,
            f"Exec format error: it is a program for s390x, and this machine is {os.uname().machine}",
        ),
        (b"#!/etc/passwd\n", 126, "Permission denied: its interpreter '/etc/passwd': it is not executable"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_file_is_examined(
    shared: Installation, folder: Path, content: bytes, status: int, reason: str
) -> None:
    """The error names the interpreter, the CRLF, the missing first line, or the dynamic loader."""
    file = program(folder / "tool", content)
    found, message = failure(shared, str(file))
    assert message.startswith(f"{file}: {reason}")
    assert status == found


def test_the_path_is_searched(shared: Installation, folder: Path) -> None:
    """A command without a slash is examined where it is in the job's PATH."""
    program(folder / "tool", b"#!/bin/sh\r\n")
    assert (127, f"tool: {CRLF}\n") == failure(shared, "--env", f"PATH=/nowhere:{folder}:/bin", "tool")


def test_a_relative_command_is_examined_in_the_working_directory(
    shared: Installation, folder: Path
) -> None:
    """A relative command is that of the job's working directory."""
    program(folder / "tool", b"#!/bin/sh\r\n")
    assert (127, f"./tool: {CRLF}\n") == failure(shared, "--cwd", str(folder), "./tool")


def test_an_interpreter_that_is_a_script_itself(shared: Installation, folder: Path) -> None:
    """What is missing may be the interpreter of an interpreter."""
    inner = program(folder / "inner", b"#!/opt/nothing\n")
    outer = program(folder / "outer", f"#!{inner}\n".encode())
    status, message = failure(shared, str(outer))
    assert (
        f"{outer}: its interpreter '{inner}': "
        "its first line names the interpreter '/opt/nothing', which does not exist\n"
    ) == message
    assert 127 == status


@pytest.mark.parametrize("command", ["ls -l", "/bin/ls  -l", "ls\t-l"])
def test_a_command_with_its_arguments(shared: Installation, command: str) -> None:
    """A command that contains its arguments does not exist; the error shows how to write it."""
    name, option = command.split()
    assert (
        127,
        f"there is no command named {command!r}; write the arguments separately: {name} {option}\n",
    ) == failure(shared, command)


def test_a_command_whose_name_has_a_space(shared: Installation, folder: Path) -> None:
    """A name with a space is executed if there is such a file."""
    file = program(folder / "two words", b"#!/bin/sh\necho run\n")
    assert b"run\n" == shared.run("run", str(file)).stdout


def test_a_broken_link(shared: Installation, folder: Path) -> None:
    """A link to a file that does not exist is named."""
    (folder / "tool").symlink_to("gone")
    assert (
        127,
        f"{folder}/tool: it is a symbolic link to 'gone', which does not exist\n",
    ) == failure(shared, f"{folder}/tool")


def test_a_nameless_error_of_a_missing_command(shared: Installation) -> None:
    """A command that does not exist keeps the words of the kernel."""
    assert (127, "no-such-tool: No such file or directory\n") == failure(shared, "no-such-tool")
    assert (126, "/etc/passwd/x: Not a directory\n") == failure(shared, "/etc/passwd/x")


@AS_ROOT
def test_what_is_denied_to_another_user(shared: Installation, folder: Path) -> None:
    """The error names the directory that the user may not search, or the mode of the file."""
    program(folder / "private", b"#!/bin/sh\n", 0o700)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    program(closed / "tool", b"#!/bin/sh\n")
    (folder / "link").symlink_to(closed / "tool")
    denied = f"Permission denied: user nobody may not search the directory {closed}\n"
    cases = {
        "private": "Permission denied: user nobody may not execute it: its mode is -rwx------\n",
        "closed/tool": denied,
        "link": denied,
        ".": "Permission denied: it is a directory\n",
    }
    for name, reason in cases.items():
        file = f"{folder}/{name}"
        assert (126, f"{file}: {reason}") == failure(shared, "--user", "nobody", file)
    assert (125, f"working directory: {closed}: {denied}") == failure(
        shared, "--user", "nobody", "--cwd", str(closed), "true"
    )


@AS_ROOT
def test_a_file_system_without_programs(shared: Installation, folder: Path) -> None:
    """A file system that is mounted with noexec is named."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", str(folder)], check=True)
    try:
        file = program(folder / "tool", b"#!/bin/sh\n")
        assert (
            126,
            f"{file}: Permission denied: its file system is mounted with the option noexec\n",
        ) == failure(shared, str(file))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_working_directories_that_do_not_exist(shared: Installation) -> None:
    """The working directory is named, not the command."""
    assert (125, "working directory: /nowhere: No such file or directory\n") == failure(
        shared, "--cwd", "/nowhere", "true"
    )
    assert (125, "working directory: /etc/passwd: Not a directory\n") == failure(
        shared, "--cwd", "/etc/passwd", "true"
    )
