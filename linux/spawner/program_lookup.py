"""Which file a command is, how it was reached, and who could replace it (for the policy).

Everything on the way to the file must belong to root and be writable by root alone. Then the file cannot
change between the lookup and the exec.
"""

import os
import stat

from ...core.policy.calls import Program
from ..kernel.path_walk import PathWalk, Weakness
from .program_file import DEEPEST, Script, candidates, read_program


def find_program(command: str, directory: str, search_path: str) -> Program:
    """Return the program that a command is, in this working directory and PATH."""
    for path in candidates(command, directory, search_path):
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


def _look_at(path: str) -> tuple[Program, str]:
    """Return the program at a path, and its file without any link; raise OSError."""
    walk = PathWalk()
    parent, _, name = path.rpartition("/")
    real = f"{walk.follow(parent).rstrip('/')}/{name}"
    file = walk.follow(real)
    unsafe = _unsafe(walk) or _unsafe_interpreter(file)
    return Program(real, frozenset((path, *walk.links, file)), unsafe), file


def _unsafe_interpreter(file: str, depth: int = 0) -> str:
    """Return why a user other than root can change the interpreter of a script; empty: none can."""
    program = read_program(file)
    if not isinstance(program, Script):
        return ""
    if not program.interpreter.startswith("/"):
        return f"the interpreter of {file} is found through the working directory"
    walk = PathWalk()
    try:
        interpreter = walk.follow(program.interpreter)
    except OSError as error:
        return f"the interpreter of {file}: {error.strerror}"
    unsafe = _unsafe(walk)
    if unsafe or depth == DEEPEST:
        return unsafe and f"the interpreter of {file}: {unsafe}"
    return _unsafe_interpreter(interpreter, depth + 1)


def _unsafe(walk: PathWalk) -> str:
    """Return why a user other than root can change what is on a path; empty: none can."""
    match walk.weakness:
        case None:
            return ""
        case Weakness(path, None):
            return f"others than root may write to {path}"
        case Weakness(path, owner):
            return f"{path} belongs to the uid {owner}, not to root"
