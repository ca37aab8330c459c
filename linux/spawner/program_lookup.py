"""Which file a command is, how it was reached, and who could replace it (for the policy).

A path is followed component by component, as the kernel does: everything on the way must belong to root
and be writable by root alone, as sshd requires of an AuthorizedKeysCommand. Then the file cannot change
between the lookup and the exec.
"""

import os
import stat
from collections.abc import Iterator

from ...core.policy.calls import Program
from .program_file import Script, read_program

_MOST_LINKS = 40
"""That the kernel follows (path_resolution(7))."""

_DEEPEST = 5
"""Interpreters of interpreters that the kernel follows (fs/exec.c)."""

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def find_program(command: str, directory: str, search_path: str) -> Program:
    """Return the program that a command is, in this working directory and PATH."""
    for path in _candidates(command, directory, search_path):
        try:
            program, file = _look_at(path)
            info = os.stat(file)
        except OSError:
            continue
        if "/" in command or (stat.S_ISREG(info.st_mode) and info.st_mode & 0o111):
            return program
    return Program(
        os.path.normpath(os.path.join(directory, command)) if "/" in command else command, missing=True
    )


def _candidates(command: str, directory: str, search_path: str) -> Iterator[str]:
    if "/" in command:
        yield os.path.join(directory, command)
    else:
        for each in search_path.split(":"):
            yield os.path.join(each, command)


def _look_at(path: str) -> tuple[Program, str]:
    """Return the program at a path, and its file without any link; raise OSError."""
    walk = _Walk()
    parent, _, name = path.rpartition("/")
    real = f"{walk.follow(parent).rstrip('/')}/{name}"
    file = walk.follow(real)
    unsafe = walk.unsafe or _unsafe_interpreter(file)
    return Program(real, frozenset((path, *walk.links, file)), unsafe), file


def _unsafe_interpreter(file: str, depth: int = 0) -> str:
    """Return why a user other than root can change the interpreter of a script; empty: none can."""
    program = read_program(file)
    if not isinstance(program, Script):
        return ""
    if not program.interpreter.startswith("/"):
        return f"the interpreter of {file} is found through the working directory"
    walk = _Walk()
    try:
        interpreter = walk.follow(program.interpreter)
    except OSError as error:
        return f"the interpreter of {file}: {error.strerror}"
    if walk.unsafe or depth == _DEEPEST:
        return walk.unsafe and f"the interpreter of {file}: {walk.unsafe}"
    return _unsafe_interpreter(interpreter, depth + 1)


class _Walk:
    """Follows paths; ``links`` are those on the way, ``unsafe`` the first problem on the way."""

    def __init__(self) -> None:
        self.links: list[str] = []
        self.unsafe = ""

    def follow(self, path: str) -> str:
        """Return an absolute path without links; raise OSError."""
        current = "/"
        self._check(current, os.lstat(current))
        pending = path.split("/")[::-1]
        while pending:
            name = pending.pop()
            if name == "..":
                current = os.path.dirname(current)
            elif name not in {"", "."}:
                step = f"{current.rstrip('/')}/{name}"
                info = os.lstat(step)
                self._check(step, info)
                if stat.S_ISLNK(info.st_mode):
                    target = self._target(step)
                    current = "/" if target.startswith("/") else current
                    pending += target.split("/")[::-1]
                else:
                    current = step
        return current

    def _target(self, link: str) -> str:
        if len(self.links) >= _MOST_LINKS:
            raise OSError(f"{link}: too many links")
        self.links.append(link)
        return os.readlink(link)

    def _check(self, path: str, info: os.stat_result) -> None:
        if self.unsafe:
            return
        if info.st_uid != 0:
            self.unsafe = f"{path} belongs to the uid {info.st_uid}, not to root"
        elif info.st_mode & _WRITABLE_BY_OTHERS and not stat.S_ISLNK(info.st_mode):
            self.unsafe = f"others than root may write to {path}"
