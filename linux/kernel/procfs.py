"""Reads /proc: see proc(5)."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from .kernel_files import read_file

_PF_FORKNOEXEC = 0x40  # include/linux/sched.h


@dataclass(frozen=True, slots=True)
class Stat:
    """Some fields of /proc/PID/stat; ``start`` in clock ticks since boot.

    ``before_exec``: the process was cloned and has not executed a program since (PF_FORKNOEXEC).
    Pid and start identify a process; its pid alone may be reused.
    """

    state: str
    session: int
    start: int
    before_exec: bool


class OpenFile(NamedTuple):
    """An open file of a process: its descriptor, device and inode, and file position.

    ``terminal`` is the number of the pseudo-terminal whose master it is, as in /dev/pts/N; None for others.
    """

    descriptor: int
    inode: tuple[int, int]
    position: int
    terminal: int | None


@cache
def boot_id() -> str:
    """Return an id that differs after every boot."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def stat(pid: int) -> Stat | None:
    """Return fields of a process, None if it does not exist."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    flags = int(fields[6])
    return Stat(fields[0].decode(), int(fields[3]), int(fields[19]), bool(flags & _PF_FORKNOEXEC))


def is_process(pid: int, start: int) -> bool:
    """Whether a pid still is that of the process with this start time; pids are reused."""
    found = stat(pid)
    return found is not None and found.start == start


def zombie_status(pid: int) -> int | None:
    """Return the wait(2) status of a zombie, None if it is not a zombie or we may not trace it."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:  # a zombie has none
        fields = _stat_fields(pid)
        return int(fields[49]) if fields and fields[0] == b"Z" else None
    except (PermissionError, ProcessLookupError):  # the kernel shows a status of 0 without PTRACE_MODE_READ
        return None
    return None


def _stat_fields(pid: int) -> list[bytes] | None:
    """Return the fields of proc_pid_stat(5) from the third on, None if there is no such process."""
    try:
        text = read_file(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may itself contain spaces and parentheses.
    return text[text.rindex(b")") + 2 :].split()


def ignored_signals(pid: int) -> frozenset[int]:
    """Return the signals that a process ignores, or that its first thread waits with blocked.

    Blocked signals of a thread that runs do not count: bash blocks SIGTERM while it forks. None if there is
    no such process.
    """
    try:
        facts = _facts(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return frozenset()
    mask = int(facts.get(b"SigIgn", b"0"), 16)
    if facts.get(b"State", b"").startswith(b"S"):
        mask |= int(facts.get(b"SigBlk", b"0"), 16)
    return frozenset(number for number in range(1, mask.bit_length() + 1) if mask >> (number - 1) & 1)


def _facts(path: str) -> dict[bytes, bytes]:
    """Return what a file of lines ``NAME:<tab>VALUE`` has."""
    return dict(line.split(b":\t", 1) for line in read_file(path).split(b"\n") if b":\t" in line)


def pids() -> list[int]:
    """Return the pid of every process in this pid namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def has_variable(pid: int, variable: bytes) -> bool:
    """Whether a process was started with ``NAME=value`` in its environment; False if we may not read it."""
    try:
        return variable in read_file(f"/proc/{pid}/environ").split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def cgroups(pid: int) -> frozenset[bytes]:
    """Return the names of the cgroups that a process is in, and of those above them."""
    try:
        return frozenset(read_file(f"/proc/{pid}/cgroup").replace(b"\n", b"/").split(b"/"))
    except (FileNotFoundError, ProcessLookupError):
        return frozenset()


def open_files(pid: int) -> list[OpenFile]:
    """Return the open files of a process, as far as we may see them; none if it is gone."""
    files = []
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for descriptor in map(int, os.listdir(f"/proc/{pid}/fd")):
            file = os.stat(f"/proc/{pid}/fd/{descriptor}")
            facts = _facts(f"/proc/{pid}/fdinfo/{descriptor}")
            terminal = int(facts[b"tty-index"]) if b"tty-index" in facts else None
            files.append(OpenFile(descriptor, (file.st_dev, file.st_ino), int(facts[b"pos"]), terminal))
    return files


def command_line(pid: int) -> bytes:
    """Return the arguments of a process, each ended by NUL; empty if it does not exist or is a zombie."""
    try:
        return read_file(f"/proc/{pid}/cmdline")
    except (FileNotFoundError, ProcessLookupError):
        return b""
