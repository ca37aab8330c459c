"""One cgroup: creating, reading, writing and removing its directory."""

import os
from asyncio import sleep
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES, EPERM, EROFS

from ..core.errors import LimitsRejected, LimitsUnsupported, QuotaExceeded
from . import kernel_files
from .hierarchy.hierarchy import Version
from .tree import walk

_CREATION_ATTEMPTS = 10
_REMOVAL_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *(0.1 for _ in range(10)))


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup, which need not exist: its readings are None or empty if it does not.

    Its path is a string: a job has a dozen cgroups, and creating Paths took longer than the kernel.
    """

    path: str
    version: Version

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.path}/{name}"

    def set(self, name: str, value: int | str) -> None:
        """Write a limit; raise LimitsRejected with the file, the data and the kernel's error."""
        try:
            kernel_files.write(self.file(name), str(value))
        except OSError as error:
            raise LimitsRejected(f"{error.filename}: {error.strerror}") from error

    def has(self, name: str) -> bool:
        """Whether the cgroup has a file of this name with this kernel."""
        return os.path.exists(self.file(name))

    def count(self, name: str) -> int | None:
        """Return the number in a file; None if the file does not exist or contains no limit."""
        return kernel_files.read_count(self.file(name))

    def table(self, name: str) -> dict[str, int]:
        """Return the numbers of a flat keyed file such as cpu.stat."""
        return kernel_files.read_table(self.file(name))

    def text(self, name: str) -> str:
        """Return the content of a file; empty if the file does not exist."""
        return kernel_files.read(self.file(name)) or ""

    def words(self, name: str) -> frozenset[str]:
        """Return the words of a file such as cgroup.controllers or cgroup.procs."""
        return frozenset(self.text(name).split())

    def words_below(self, name: str) -> Iterator[str]:
        """Return the words of this file in the cgroup and in every one below it."""
        for path in walk(self.path):
            yield from Cgroup(path, self.version).words(name)

    def populated(self) -> bool:
        """Whether there is a process in the cgroup or below it."""
        if self.version is Version.V2:
            return self.table("cgroup.events").get("populated") == 1
        return next(self.words_below("cgroup.procs"), None) is not None

    def create(self) -> None:
        """Create the cgroup, and its parent if it does not exist.

        Raises FileExistsError, LimitsUnsupported if that is not allowed here, QuotaExceeded if the
        kernel's limit on the number of cgroups is reached.
        """
        try:
            self._create()
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno in {EACCES, EPERM, EROFS}:
                raise LimitsUnsupported(f"cannot create the control group {self.path}: {error}") from error
            raise QuotaExceeded(f"cannot create another control group at {self.path}: {error}") from error

    def _create(self) -> None:
        for attempt in range(_CREATION_ATTEMPTS):
            try:
                _make_directory(self.path)
            except FileNotFoundError:  # the first job; or a limiter with this parent is just removing it
                if attempt == _CREATION_ATTEMPTS - 1:
                    raise
                _make_parents(os.path.dirname(self.path))
            else:
                return

    def blocks_controllers(self) -> bool:
        """Whether processes in this cgroup of v2 prevent controllers in the cgroups below it.

        The kernel would reject memory (EBUSY), but accept cpu and pids, and from then on no process
        could enter the cgroups below ("domain invalid"). The root, which has no type, is exempt.
        """
        return self.has("cgroup.type") and bool(self.words("cgroup.procs"))

    def enable(self, controllers: Collection[str]) -> dict[str, str]:
        """Enable controllers of v2 for the cgroups below; return the reason for each that failed."""
        missing = sorted(set(controllers) - self.words("cgroup.subtree_control"))
        if missing and self.blocks_controllers():
            return dict.fromkeys(missing, f"{self.path} itself contains processes")
        obstacles: dict[str, str] = {}
        for name in missing:
            try:
                kernel_files.write(self.file("cgroup.subtree_control"), f"+{name}")
            except OSError as error:
                obstacles[name] = f"{error.filename}: {error.strerror}"
        return obstacles

    def discard(self) -> None:
        """Remove the cgroup if it exists and is empty."""
        with suppress(OSError):
            os.rmdir(self.path)

    async def remove(self) -> None:
        """Remove the cgroup and those below it. Idempotent.

        Raises OSError (EBUSY) if a process remains in it. The kernel returns EBUSY also for a moment
        after the last process has exited, so this retries for a second.
        """
        for pause in _REMOVAL_PAUSES:
            try:
                return self._remove()
            except OSError:
                await sleep(pause)
        return self._remove()

    def _remove(self) -> None:
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError:  # EBUSY: there are cgroups or processes in it
            for path in reversed(list(walk(self.path))):
                with suppress(FileNotFoundError):
                    os.rmdir(path)


def _make_parents(path: str) -> None:
    """Create a directory and those above it, as far as they do not exist."""
    if not os.path.isdir(path):
        _make_parents(os.path.dirname(path))
        with suppress(FileExistsError):  # by another limiter
            _make_directory(path)


def _make_directory(path: str) -> None:
    """Create a directory that every user can read, whatever the umask is: runtimes look up their limits."""
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103 - as systemd does
