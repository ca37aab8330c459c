"""Who may open the files in WORKER_HOME: this user alone, whatever the umask of any program was."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_TREES = ("jobs", "supervisor")
_FILES = (
    "address",
    "journal.db",
    "journal.db-shm",
    "journal.db-wal",
    "last-up",
    "server.lock",
    "server.log",
    "up.lock",
)

_PATTERNS = ("audit.log*", "reserve-*")
_KEYS = ("pki", "ca")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_exposed(path: Path) -> bool:
    """Whether group or others have any access to a file or directory itself."""
    return bool(path.stat().st_mode & _OTHERS)


def exposed_files(home: Path) -> Iterator[Path]:
    """Yield the home, and each of the server's files and directories below, that others have access to.

    Not certificates, which are public, and not the FIFOs of jobs: a job of another user opens /dev/stderr
    again, and can reach no FIFO but its own. The files of a job whose directory is private are not looked
    at: there may be tens of thousands, and other users can reach none of them.
    """
    if is_exposed(home):
        yield home
    for name in _FILES:
        yield from _exposed(home / name)
    for pattern in _PATTERNS:
        for path in sorted(home.glob(pattern)):
            yield from _exposed(path)
    for name in _TREES:
        yield from _exposed_below(home / name)
    for directory in (home / name for name in _KEYS):
        if not directory.is_symlink():
            yield from _exposed(directory)
            for key in sorted(directory.glob("*.key")):
                yield from _exposed(key)


def restrict(path: Path) -> None:
    """Take all access to a file from group and others; OSError if that is refused."""
    with suppress(FileNotFoundError):  # a job may have ended meanwhile
        path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)


def replace_private(path: Path, text: str) -> None:
    """Write a file that only this user can open, as a whole; OSError leaves the old one."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def correction(paths: Sequence[Path]) -> str:
    """Return what to report when access to these paths, at least one, was taken from others."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"others had access to {paths[0]}{more}; corrected"


def _exposed_below(directory: Path) -> Iterator[Path]:
    yield from _exposed(directory)
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            path = Path(entry.path)
            exposed = list(_exposed(path))
            yield from exposed
            if entry.is_dir(follow_symlinks=False) and (exposed or directory.name != "jobs"):
                yield from _exposed_below(path)


def _exposed(path: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.lstat().st_mode
        if mode & _OTHERS and not (stat.S_ISLNK(mode) or stat.S_ISFIFO(mode)):
            yield path
