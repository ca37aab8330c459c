"""Which files a command may be, and what kind of program a file is: as execvpe(3) and execve(2) see it."""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

DEEPEST = 5
"""Interpreters of interpreters that the kernel follows (fs/exec.c)."""

_HEAD = 4096
"""Bytes to read; the kernel looks at the first 256 of a script (BINPRM_BUF_SIZE)."""

_LONGEST_LINE = 256
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PT_INTERP = 3
_MACHINES = {3: "i686", 8: "mips", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64"} | {
    183: "aarch64",
    243: "riscv64",
}
"""e_machine of elf(5) as uname(2) names it."""


@dataclass(frozen=True, slots=True)
class Script:
    """A file that begins with #!. ``crlf``: the carriage return is a part of ``interpreter``."""

    interpreter: str
    crlf: bool = False


@dataclass(frozen=True, slots=True)
class Elf:
    """A compiled program; ``loader`` (PT_INTERP) and ``architecture`` are empty if unknown."""

    loader: str = ""
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Any other file."""

    empty: bool = False
    text: bool = False
    byte_order_mark: bool = False


def candidates(command: str, directory: str, search_path: str) -> Iterator[str]:
    """Yield the files that are tried: the command, or that name in each directory of the PATH."""
    for each in [""] if "/" in command else search_path.split(":"):
        yield os.path.join(directory, each, command)


def read_program(path: str) -> Script | Elf | Unknown:
    """Return the kind of a file; Unknown if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Unknown()
        # Another user may have put a FIFO there meanwhile: open(2) would wait for a writer.
        with open(path, "rb", opener=_open_at_once) as file:
            return program(file.read(_HEAD))
    except OSError:
        return Unknown()


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def program(head: bytes) -> Script | Elf | Unknown:
    """Return the kind of a file that begins with these bytes."""
    if head.startswith(b"#!"):
        return _script(head)
    if head.startswith(b"\x7fELF"):
        try:
            return _elf(head)
        except (struct.error, KeyError, IndexError):
            return Elf()
    marked = head.startswith(_BYTE_ORDER_MARK)
    return Unknown(
        empty=not head,
        text=bool(head) and b"\0" not in head,
        byte_order_mark=marked and head.removeprefix(_BYTE_ORDER_MARK).startswith(b"#!"),
    )


def _script(head: bytes) -> Script:
    line = head[2:_LONGEST_LINE].split(b"\n")[0].strip(b" \t")
    interpreter = os.fsdecode(line.replace(b"\t", b" ").split(b" ")[0])
    return Script(interpreter, crlf=interpreter.endswith("\r"))


def _elf(head: bytes) -> Elf:
    """Read elf(5): the machine, and the path of the program header PT_INTERP."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    if wide:
        (table,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
    else:
        (table,) = struct.unpack_from(f"{order}I", head, 28)
        size, count = struct.unpack_from(f"{order}HH", head, 42)
    loader = ""
    for position in range(table, table + size * count, max(size, 1)):
        if position + size > len(head):
            break
        (kind,) = struct.unpack_from(f"{order}I", head, position)
        if kind == _PT_INTERP:
            offset, length = (
                (
                    struct.unpack_from(f"{order}Q", head, position + 8)[0],
                    struct.unpack_from(f"{order}Q", head, position + 32)[0],
                )
                if wide
                else (
                    struct.unpack_from(f"{order}I", head, position + 4)[0],
                    struct.unpack_from(f"{order}I", head, position + 16)[0],
                )
            )
            loader = os.fsdecode(head[offset : offset + length].rstrip(b"\0"))
    return Elf(loader, _MACHINES.get(machine, ""))
