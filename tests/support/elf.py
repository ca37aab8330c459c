"""Reads the headers of an executable: elf(5)."""

import struct
from pathlib import Path
from typing import NamedTuple

X86_64, AARCH64 = 62, 183
LOAD, DYNAMIC, INTERPRETER, STACK = 1, 2, 3, 0x6474E551
EXECUTABLE, WRITABLE = 1, 2


class Segment(NamedTuple):
    """A program header: its type (PT_*), flags (PF_*), and alignment."""

    kind: int
    flags: int
    alignment: int


class Executable(NamedTuple):
    """What the headers of a 64-bit little-endian executable state."""

    machine: int
    segments: list[Segment]

    @property
    def static(self) -> bool:
        """Whether it needs no other file: no interpreter (ld.so), no shared library."""
        return {INTERPRETER, DYNAMIC}.isdisjoint(each.kind for each in self.segments)


def read_executable(path: Path) -> Executable:
    """Read the headers of an executable with fixed addresses (ET_EXEC)."""
    content = path.read_bytes()
    magic, kind, machine, table, size, count = struct.unpack_from("<6s10xHH4x8xQ8x4x2xHH", content)
    assert (b"\x7fELF\x02\x01", 2) == (magic, kind)
    segments = []
    for offset in range(table, table + size * count, size):
        kind, flags, *_, alignment = struct.unpack_from("<IIQQQQQQ", content, offset)
        segments.append(Segment(kind, flags, alignment))
    return Executable(machine, segments)
