"""What only some spawners can do: the optional protocols of a Process in the ports."""

from typing import cast

from ..errors import ActionRefused
from ..ports import (
    InteractiveProcess,
    PausableProcess,
    Process,
    SignalableProcess,
    TerminalProcess,
)


def signalable(process: Process) -> SignalableProcess:
    """Return a process whose recipients of a signal can be chosen; ActionRefused if it is not one."""
    return cast("SignalableProcess", _with("signal", process, "cannot send a single signal"))


def pausable(process: Process) -> PausableProcess:
    """Return a process that can be paused; ActionRefused if it cannot be."""
    return cast("PausableProcess", _with("pause", process, "cannot pause jobs"))


def interactive(process: Process) -> InteractiveProcess:
    """Return a process that input can be written to; ActionRefused if it is not one."""
    return cast("InteractiveProcess", _with("write_input", process, "cannot pass input to jobs"))


def resizable(process: Process) -> TerminalProcess:
    """Return a process whose terminal can be resized; ActionRefused if it is not one."""
    return cast("TerminalProcess", _with("resize", process, "cannot give terminals to jobs"))


def _with(method: str, process: Process, lack: str) -> Process:
    if not hasattr(process, method):
        raise ActionRefused(f"the spawner of this server {lack}; the spawner `supervisor` can")
    return process
