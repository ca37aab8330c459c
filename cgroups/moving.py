"""Moves the processes of a running job into another cgroup of v1."""

from errno import ESRCH

from ..core.errors import LimitsRejected
from . import kernel_files
from .cgroup import Cgroup

_ROUNDS = 100


def move_all(source: Cgroup, target: Cgroup) -> None:
    """Move every process of one cgroup and those below it, including those forked meanwhile.

    A child is created in the cgroup of its parent, so a round that finds none elsewhere has moved all.
    Raises LimitsRejected if the kernel refuses, or if the job keeps forking faster than this.
    """
    for _ in range(_ROUNDS):
        left = set(source.words_below("cgroup.procs")) - set(target.words_below("cgroup.procs"))
        if not left:
            return
        for pid in left:
            _move(pid, target)
    raise LimitsRejected(f"{target.path}: the job creates processes faster than they can be moved")


def _move(pid: str, target: Cgroup) -> None:
    try:
        kernel_files.write(target.file("cgroup.procs"), pid)
    except OSError as error:
        if error.errno != ESRCH:  # it has ended
            raise LimitsRejected(f"{error.filename}: {error.strerror}") from error
