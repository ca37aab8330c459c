"""Why execve(2) failed, as far as the files show it: its errno names neither the file nor the reason.

"No such file or directory" may be about the interpreter of a script, "Permission denied" about a
directory. The checks use the mode bits for the user of the job; access control lists and security modules
are not considered, so a reason may be missing.
"""

import errno
import os
import stat
from collections.abc import Iterator

from ..ipc.encoding import SpawnPlan
from .program_file import DEEPEST, Elf, Script, Unknown, candidates, read_program

_DETAILS = {
    errno.ELOOP: "or of scripts that are interpreters of scripts",
    errno.EAGAIN: "the user has as many processes as the ulimit nproc allows",
    errno.ETXTBSY: "a process has the file open for writing",
}


def exec_failure(plan: SpawnPlan, number: int) -> str:
    """Return the message for a command that could not be executed, which begins with the command."""
    if number == errno.ENOENT:
        return _not_found(plan)
    return ": ".join(filter(None, (plan.spec.command, os.strerror(number), _detail(plan, number))))


def _detail(plan: SpawnPlan, number: int) -> str:
    reasons: Iterator[str] = iter(())
    if number == errno.EACCES:
        reasons = (why for path in _candidates(plan) for why in _denied_for(plan, path))
    elif number == errno.ENOEXEC:
        reasons = (_not_executable_format(path) for path in _candidates(plan) if os.path.exists(path))
    elif number in _DETAILS:
        return _DETAILS[number]
    return next(filter(None, reasons), "")


def search_denied(plan: SpawnPlan, path: str) -> str:
    """Return which directory on the way to a path the job's user may not search; empty if none is known."""
    for directory in _ancestors(os.path.join(plan.working_directory, path)):
        try:
            info = os.stat(directory)
        except OSError:
            return ""
        if not stat.S_ISDIR(info.st_mode):
            return ""
        if not _may_execute(plan, info):
            return f"{_who(plan)} may not search the directory {directory}"
    return ""


def link_on_the_way(plan: SpawnPlan) -> str:
    """Return which part of a path that must have no links is one; empty if none is known."""
    if not plan.exact_directory:
        return ""
    found = next(filter(os.path.islink, _ancestors(plan.exact_directory)), "")
    return found and f"{found} is a symbolic link now, and was none when the policy allowed the path"


def _not_found(plan: SpawnPlan) -> str:
    command = plan.spec.command
    for path in _candidates(plan):
        try:
            os.lstat(path)
        except OSError:
            continue
        return f"{command}: {_missing_for(plan, path)}"
    if any(character.isspace() for character in command):
        parts = " ".join(command.split())
        return f"there is no command named {command!r}; write the arguments separately: {parts}"
    return f"{command}: {os.strerror(errno.ENOENT)}"


def _missing_for(plan: SpawnPlan, path: str, depth: int = 0) -> str:
    """Return what an existing file needs and does not find."""
    nothing = os.strerror(errno.ENOENT)
    if not os.path.exists(path):
        return f"it is a symbolic link to {os.readlink(path)!r}, which does not exist"
    program = read_program(path)
    if isinstance(program, Script) and depth < DEEPEST:
        return _interpreter_missing(plan, program, depth)
    if isinstance(program, Elf) and program.loader and not os.path.exists(program.loader):
        return (
            f"its dynamic loader {program.loader} does not exist: "
            "it was built for another C library or architecture"
        )
    return nothing


def _interpreter_missing(plan: SpawnPlan, script: Script, depth: int) -> str:
    path = os.path.join(plan.working_directory, script.interpreter)
    if os.path.lexists(path):
        return f"its interpreter {script.interpreter!r}: {_missing_for(plan, path, depth + 1)}"
    if script.crlf:
        return (
            f"its first line ends with CRLF, so that its interpreter would be {script.interpreter!r}; "
            "convert the file to LF line ends, as dos2unix does"
        )
    return f"its first line names the interpreter {script.interpreter!r}, which does not exist"


def _denied_for(plan: SpawnPlan, path: str, depth: int = 0) -> Iterator[str]:
    """Yield the reasons why a user may not execute a file; none if it does not exist."""
    yield search_denied(plan, os.path.dirname(path))
    if not os.path.exists(path):
        return
    # A symbolic link leads through other directories.
    yield search_denied(plan, os.path.dirname(os.path.realpath(path)))
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        yield "it is a directory" if stat.S_ISDIR(info.st_mode) else "it is not a regular file"
    elif not info.st_mode & 0o111:
        yield "it is not executable (chmod +x)"
    elif not _may_execute(plan, info):
        yield f"{_who(plan)} may not execute it: its mode is {stat.filemode(info.st_mode)}"
    elif os.statvfs(path).f_flag & os.ST_NOEXEC:
        yield "its file system is mounted with the option noexec"
    program = read_program(path)
    if isinstance(program, Script) and depth < DEEPEST:
        interpreter = os.path.join(plan.working_directory, program.interpreter)
        for why in filter(None, _denied_for(plan, interpreter, depth + 1)):
            yield f"its interpreter {program.interpreter!r}: {why}"


def _not_executable_format(path: str) -> str:
    machine = os.uname().machine
    match read_program(path):
        case Script(interpreter=""):
            why = "its first line names no interpreter; it must be like #!/bin/sh"
        case Script(interpreter=interpreter):
            why = f"its interpreter {interpreter!r} is no program for this machine"
        case Elf(architecture=other) if other and other != machine:
            why = f"it is a program for {other}, and this machine is {machine}"
        case Unknown(empty=True):
            why = "the file is empty"
        case Unknown(byte_order_mark=True):
            why = "it begins with a byte order mark (BOM), which must not precede #!"
        case Unknown(text=True):
            why = "a script must begin with a line that names its interpreter, such as #!/bin/sh"
        case _:
            why = ""
    return why


def _candidates(plan: SpawnPlan) -> Iterator[str]:
    """Yield the files that were tried."""
    return candidates(plan.executable, plan.working_directory, plan.env.get("PATH", ""))


def _ancestors(path: str) -> list[str]:
    """Return all directories from the root to a path, and the path itself."""
    found = [path]
    while (parent := os.path.dirname(found[-1])) != found[-1]:
        found.append(parent)
    return found[::-1]


def _may_execute(plan: SpawnPlan, info: os.stat_result) -> bool:
    """Whether the mode bits let the job's user execute a file, or search a directory."""
    uid = os.geteuid() if plan.uid is None else plan.uid
    groups = {os.getegid(), *os.getgroups()} if plan.gid is None else {plan.gid, *plan.groups}
    if uid == 0:  # CAP_DAC_OVERRIDE needs one x bit of a file, and none of a directory
        return stat.S_ISDIR(info.st_mode) or bool(info.st_mode & 0o111)
    if info.st_uid == uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid in groups:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _who(plan: SpawnPlan) -> str:
    return f"user {plan.spec.user}" if plan.spec.user is not None else "the user of the worker"
