"""Walks the directories of a cgroup tree, and reads the files in them."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

from .kernel_files import read_file

_LINKS_OF_A_LEAF = 2
"""Its name, and its own dot."""


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
        if error.errno in {errno.ENOENT, errno.ENODEV}:  # before or after it was opened
            return ""
        raise
