"""What only some adapters can do: the optional protocols of the ports."""

from typing import cast

from ..errors import ActionRefused, TimesNotKept
from ..ports import (
    InteractiveProcess,
    OutputStore,
    PausableProcess,
    Process,
    ProcessSpawner,
    SecretSpawner,
    SignalableProcess,
    TerminalProcess,
    TimedOutputStore,
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


def confidential(spawner: ProcessSpawner) -> SecretSpawner:
    """Return a spawner that can pass secrets to jobs; ActionRefused if it cannot."""
    return cast("SecretSpawner", _with("spawn_with_secrets", spawner, "cannot pass secrets to jobs"))


def check_executes_exactly(spawner: ProcessSpawner) -> None:
    """Raise ActionRefused if a spawner would look up command and directory itself, not as ``execution``."""
    if not getattr(spawner, "executes_exactly", False):
        raise ActionRefused(
            "the spawner of this server cannot execute exactly the file that the policy allows; "
            "the spawner `supervisor` can"
        )


def timed(outputs: OutputStore) -> TimedOutputStore:
    """Return a store that keeps when output was written; TimesNotKept if it does not."""
    if not hasattr(outputs, "times"):
        raise TimesNotKept("the output store of this server keeps no times; the store `recorder` does")
    return cast("TimedOutputStore", outputs)


def _with(method: str, adapter: object, lack: str) -> object:
    if not hasattr(adapter, method):
        raise ActionRefused(f"the spawner of this server {lack}; the spawner `supervisor` can")
    return adapter
