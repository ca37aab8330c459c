"""Reads the files of procfs and cgroupfs."""

import os

_AT_ONCE = 4096


def read_file(path: str) -> bytes:
    """Return the content of a file; raise OSError as open(2) and read(2) do.

    open() of Python makes six more system calls, which cost more than reading such a file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while some := os.read(fd, _AT_ONCE):
            content += some
        return content
    finally:
        os.close(fd)
