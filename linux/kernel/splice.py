"""splice(2) between descriptors of which one is a pipe, without blocking."""

import os

_SPLICE_F_NONBLOCK = 2


def splice(source: int, target: int, most: int, position: int | None = None) -> int:
    """Move at most this many bytes and return how many; BlockingIOError if none can be moved now.

    Writes at ``position`` of a file; None: at the file position, which moves.
    """
    return os.splice(source, target, most, offset_dst=position, flags=_SPLICE_F_NONBLOCK)
