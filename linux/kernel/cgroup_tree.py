"""Walks the directories of a cgroup tree, and reads and writes the files in them."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from .kernel_files import read_file

_LINKS_OF_A_LEAF = 2
"""Its name, and its own dot."""

_REMOVED = {errno.ENOENT, errno.ENODEV}
"""The errors if a cgroup is removed before or after its file is opened."""


def walk(top: str) -> Iterator[str]:
    """Yield a cgroup and those below it, parents first; skips cgroups removed meanwhile."""
    found = [top]
    for path in found:  # grows meanwhile
        yield path
        with suppress(FileNotFoundError):
            # kernfs: a cgroup's directory has a link for each child. Most have none, but many files.
            if os.stat(path).st_nlink != _LINKS_OF_A_LEAF:
                found += [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]


def read(path: str) -> str:
    """Return a cgroup file's text, empty if removed: systemd removes the cgroups of an empty scope."""
    try:
        return read_file(path).decode()
    except OSError as error:
        if error.errno in _REMOVED:
            return ""
        raise


def write(path: str, text: str) -> bool:
    """Write to a cgroup file; return False if it or the cgroup does not exist, OSError if refused."""
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(text.encode())
    except OSError as error:
        if error.errno in _REMOVED:
            return False
        raise
    return True
