"""Which processes hold the files of a job open, read from /proc/PID/fd (proc_pid_fd(5))."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..kernel import procfs


@dataclass(frozen=True, slots=True)
class Holder:
    """A process and the names of the job's files that it has open, without duplicates.

    ``command`` is the command line, with blanks between the arguments.
    """

    pid: int
    command: str
    files: tuple[str, ...]


def holders_of(directory: str, paths: Collection[str] = ()) -> list[Holder]:
    """Return the processes that hold these files or files in a directory.

    Processes that we may not read are missing.
    """
    directory = os.path.realpath(directory)  # as /proc shows it: WORKER_HOME may be a symbolic link
    paths = {os.path.realpath(path) for path in paths}
    files: defaultdict[int, set[str]] = defaultdict(set)
    for pid in procfs.pids():
        for path in _open_files(pid):
            folder, _, name = path.rpartition("/")
            if folder == directory or path in paths:
                files[pid].add(name)
    return [Holder(pid, command_of(pid), tuple(sorted(files[pid]))) for pid in sorted(files)]


def command_of(pid: int) -> str:
    """Return the command line of a process, empty if it has exited."""
    return procfs.command_line(pid).replace(b"\0", b" ").decode(errors="backslashreplace").strip()


def _open_files(pid: int) -> Iterator[str]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # it has exited, or belongs to another user
        return
    for descriptor in descriptors:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue  # closed meanwhile
