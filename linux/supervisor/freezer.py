"""Freezes and thaws the processes of a job. Whether they are frozen is stored in the kernel only.

https://docs.kernel.org/admin-guide/cgroup-v2.html: cgroup.freeze (Linux 5.2), also without controllers.
A frozen process can be killed.
https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html: freezer.state. A frozen process
gets no signal, not even SIGKILL.
"""

import errno
import os
from dataclasses import dataclass

from ...core.ports import Placement
from ..kernel import cgroup_tree


@dataclass(frozen=True, slots=True)
class Freezer:
    """The files of a cgroup that freeze its processes and show whether they are frozen.

    ``control`` takes ``freeze`` and ``thaw``. ``requested`` and ``complete`` are a file and the text in
    it while the processes are to be frozen, and when all of them are.
    """

    control: str
    freeze: str
    thaw: str
    requested: tuple[str, str]
    complete: tuple[str, str]


def freeze_processes(placement: Placement) -> None:
    """Begin to freeze every process, also those forked meanwhile. Idempotent; OSError if refused."""
    freezer = _freezer(placement)
    if freezer is None:
        raise OSError(
            errno.ENOSYS,
            "this host has no freezer for the job: that needs cgroup v2 of Linux 5.2 or later, "
            "or the freezer controller of cgroup v1",
        )
    cgroup_tree.write(freezer.control, freezer.freeze)


def thaw_processes(placement: Placement) -> None:
    """Let the processes continue. Idempotent; does nothing if the cgroup was removed."""
    freezer = _freezer(placement)
    if freezer is not None:
        cgroup_tree.write(freezer.control, freezer.thaw)


def is_freezing(placement: Placement) -> bool:
    """Whether the processes are frozen or are to be."""
    freezer = _freezer(placement)
    return freezer is not None and _shows(freezer.requested)


def is_frozen(placement: Placement) -> bool:
    """Whether every process is frozen; one in an uninterruptible system call is not yet."""
    freezer = _freezer(placement)
    return freezer is not None and _shows(freezer.complete)


def _freezer(placement: Placement) -> Freezer | None:
    unified = placement.unified
    if unified is not None and os.path.exists(control := f"{unified}/cgroup.freeze"):
        return Freezer(control, "1", "0", (control, "1"), (f"{unified}/cgroup.events", "frozen 1"))
    for directory in placement.legacy:
        if os.path.exists(state := f"{directory}/freezer.state"):
            requested = f"{directory}/freezer.self_freezing"
            return Freezer(state, "FROZEN", "THAWED", (requested, "1"), (state, "FROZEN"))
    return None


def _shows(file_and_text: tuple[str, str]) -> bool:
    file, text = file_and_text
    return text in cgroup_tree.read(file)
