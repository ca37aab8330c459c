"""Walks the directories of a cgroup tree; every walk of this package is here."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

_LINKS_OF_A_LEAF = 2
"""Its name, and its own dot."""


def walk(top: str, enter: Callable[[str], bool] = lambda _: True) -> Iterator[str]:
    """Yield a cgroup and those below it, parents first; skips cgroups removed meanwhile.

    ``enter`` receives the name of each cgroup below the top: False omits the cgroups below that one.
    """
    found = [top]
    for path in found:  # grows meanwhile: jobs may nest cgroups deeper than Python's recursion limit
        yield path
        if path == top or enter(os.path.basename(path)):
            found += [f"{path}/{name}" for name in children(path)]


def children(path: str) -> list[str]:
    """Return the names of the cgroups directly in a cgroup; none if it does not exist."""
    with suppress(FileNotFoundError):
        # kernfs: a cgroup's directory has a link for each child. Most have none, but many files.
        if os.stat(path).st_nlink != _LINKS_OF_A_LEAF:
            with os.scandir(path) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []
