"""One control group: a directory that the kernel fills with files."""

import os
from asyncio import sleep
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES, EPERM, EROFS

from ..core.errors import LimitsRejected, LimitsUnsupported, QuotaExceeded
from . import kernel_files
from .hierarchy.hierarchy import Version

_CREATION_ATTEMPTS = 10
_REMOVAL_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *(0.1 for _ in range(10)))


@dataclass(frozen=True, slots=True)
class Group:
    """A control group, which need not exist (any more): its readings are None or empty then.

    Its path is a string: a job has a dozen groups, and to make and join Paths took longer than the kernel.
    """

    path: str
    version: Version

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.path}/{name}"

    def set(self, name: str, value: int | str) -> None:
        """Set a limit; raise LimitsRejected with the file, the data and what the kernel said."""
        try:
            kernel_files.write(self.file(name), str(value))
        except OSError as error:
            raise LimitsRejected(f"{error.filename}: {error.strerror}") from error

    def has(self, name: str) -> bool:
        """Tell whether this kernel gives the group such a file."""
        return os.path.exists(self.file(name))

    def count(self, name: str) -> int | None:
        """Return the number in a file; None if there is no such file, or no limit in it."""
        return kernel_files.read_count(self.file(name))

    def table(self, name: str) -> dict[str, int]:
        """Return the numbers of a flat keyed file such as cpu.stat."""
        return kernel_files.read_table(self.file(name))

    def text(self, name: str) -> str:
        """Return the content of a file; empty if there is none such."""
        return kernel_files.read(self.file(name)) or ""

    def words(self, name: str) -> frozenset[str]:
        """Return the words of a file such as cgroup.controllers or cgroup.procs."""
        return frozenset(self.text(name).split())

    def populated(self) -> bool:
        """Tell whether a process lives in the group or below it."""
        if self.version is Version.V2:
            return self.table("cgroup.events").get("populated") == 1
        return any(Group(path, self.version).words("cgroup.procs") for path in self._tree())

    def make(self) -> None:
        """Make the group, and its parent if need be.

        Raises LimitsUnsupported if that is not allowed here, QuotaExceeded if the kernel has no
        more groups to give.
        """
        try:
            self._make()
        except OSError as error:
            if error.errno in {EACCES, EPERM, EROFS}:
                raise LimitsUnsupported(f"cannot make the control group {self.path}: {error}") from error
            raise QuotaExceeded(f"no control group to be had at {self.path}: {error}") from error

    def _make(self) -> None:
        for attempt in range(_CREATION_ATTEMPTS):
            try:
                os.mkdir(self.path)
            except FileNotFoundError:  # the first job; or a limiter with this parent takes it down just now
                if attempt == _CREATION_ATTEMPTS - 1:
                    raise
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            else:
                return

    def inhabited(self) -> bool:
        """Tell whether processes in this group of v2 keep controllers from the groups below it.

        The kernel would refuse memory (EBUSY), but take cpu and pids, and from then on no process
        could enter the groups below ("domain invalid"). The root, which has no type, is exempt.
        """
        return self.has("cgroup.type") and bool(self.words("cgroup.procs"))

    def enable(self, controllers: Collection[str]) -> dict[str, str]:
        """Let controllers of v2 into the groups below this one; return why not, for those that cannot."""
        missing = sorted(set(controllers) - self.words("cgroup.subtree_control"))
        if missing and self.inhabited():
            return dict.fromkeys(missing, f"{self.path} is itself inhabited")
        obstacles: dict[str, str] = {}
        for name in missing:
            try:
                kernel_files.write(self.file("cgroup.subtree_control"), f"+{name}")
            except OSError as error:
                obstacles[name] = f"{error.filename}: {error.strerror}"
        return obstacles

    async def remove(self) -> None:
        """Remove the group and those below it. Idempotent.

        Raises OSError (EBUSY) if a process stays there. For a moment after the last one has ended
        the kernel refuses too, so it is tried for a second.
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
        except OSError:  # EBUSY: there are groups in it, or processes
            for path in reversed(self._tree()):
                with suppress(FileNotFoundError):
                    os.rmdir(path)

    def _tree(self) -> list[str]:
        """Return the group and all below it, parents first."""
        found = [self.path]
        for path in found:  # which grows meanwhile: a job may nest groups deeper than Python calls
            with suppress(FileNotFoundError), os.scandir(path) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        return found
