"""Everything that a job's process does between clone and exec.

It was born inside its cgroup of v2 and joins those of v1 by itself, so that no instruction of the job
runs outside. It waits for its release until the supervisor has recorded it. If it never becomes the
job it writes that into the history itself: its supervisor may be dead by then.
"""

import errno
import os
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from .kernel import syscalls

User: TypeAlias = tuple[int, int, tuple[int, ...]] | None
"""Uid, gid and supplementary groups; None: who the process is already."""

Command: TypeAlias = tuple[tuple[bytes, ...], dict[bytes, bytes], bytes, User]
"""What is to be executed: arguments, environment, working directory, and as whom."""

Descriptors: TypeAlias = tuple[int, int, int, int, int]
"""What a newborn works with: its release, where it tells its failure, stdout, stderr, its history."""


def become(command: Command, joins: Sequence[str], descriptors: Descriptors) -> NoReturn:
    """Become the job. Never returns: whatever happens, this copy of the zygote must not run on.

    ``joins`` are the files by which control groups are joined. A failure is told as ``stage errno``.
    All else that a job inherits is as it should be already: see ``settle`` in linux/zygote.py.
    """
    argv, env, working_directory, user = command
    release, errors, stdout, stderr, history = descriptors
    stage = "cgroup"
    try:
        for file in joins:
            _join(file)
        stage = "session"
        os.setsid()
        stage = "descriptors"
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        stage = "user"
        _take_on(user)
        stage = "working directory"
        os.chdir(working_directory)
        stage = "release"
        if not os.read(release, 1):
            raise InterruptedError(errno.EINTR, "the supervisor died before it let go")
        stage = "exec"
        syscalls.unblock_signals()
        _execute(argv, env)
    except OSError as error:
        complaint = f"{stage} {error.errno}"
        try:
            _write_stillborn(history, complaint)
        finally:
            os.write(errors, complaint.encode())
    finally:
        os._exit(127)


def _write_stillborn(history: int, complaint: str) -> None:
    """Add the line of linux/state/history.py that no instruction of the command has run, or ever will.

    By hand, for json would make every clone dearer.
    """
    os.write(history, b'\n{"stillborn": "%b"}' % complaint.encode())


def _join(file: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")  # 0 means: the writer itself
    os.close(fd)


def _take_on(user: User) -> None:
    if user is not None:
        uid, gid, groups = user
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _execute(argv: tuple[bytes, ...], env: dict[bytes, bytes]) -> NoReturn:
    """Look the command up in the job's own PATH, as execvpe(3) does; raise what describes the failure."""
    if b"/" in argv[0]:
        os.execve(argv[0], argv, env)
    denied: OSError | None = None
    for directory in env.get(b"PATH", b"").split(b":"):
        try:
            os.execve(b"%b/%b" % (directory or b".", argv[0]), argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
