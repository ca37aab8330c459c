"""The entries of an index of times: the byte at this offset, and those after it, were written at this time.

The recorder appends an entry before it writes the byte, so an entry for the end of the output means nothing
yet, and of two entries with the same offset the last one counts. An entry has 16 bytes: the offset and the
time in milliseconds since 1970, both in the byte order of the machine. A last entry that is torn, or zero
after a power failure, is ignored.
"""

import struct

ENTRY = struct.Struct("=QQ")


def columns(data: bytes) -> "tuple[memoryview[int], memoryview[int]]":
    """Return the offsets and the times of the entries in the content of an index."""
    words = memoryview(data)[: len(data) // ENTRY.size * ENTRY.size].cast("Q")
    count = len(words)
    while count and not words[count - 1]:
        count -= 2
    return words[0:count:2], words[1:count:2]
