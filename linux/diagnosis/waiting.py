"""What a job waits for, derived from its files and the answer of its supervisor. No I/O."""

import signal
from collections.abc import Mapping
from typing import Any

from ...core.model.ending import Lost
from ...core.model.job import Leftovers
from ..state.history import History
from .files import JobFiles, JobProcess


def waits_for(files: JobFiles | None, supervisor: Mapping[str, Any] | None, now: float) -> str:
    """Return one sentence; ``now`` in seconds of CLOCK_BOOTTIME.

    ``supervisor`` is the answer to ``inspect``, None if no supervisor answers.
    """
    if files is None:
        return "Unknown: nothing is on disk here."
    if files.history is None or files.history.end is not None:
        return _server(files, files.history)
    if not files.supervisor:
        return "A supervisor to take it over: the one of its generation does not run. A server starts one."
    if supervisor is None:
        return f"Unknown: supervisor {files.supervisor} does not answer. Is it stopped (SIGSTOP)?"
    return _running(files, files.history, supervisor, now)


def _running(files: JobFiles, history: History, supervisor: Mapping[str, Any], now: float) -> str:
    if supervisor.get("paused"):
        return f"`worker resume`: the job is paused.{_deadline(supervisor, now)}"
    if history.main is None:
        return _main_process(files, history.start.pid, supervisor, now)
    if files.processes:
        return _leftovers(files, history.start.plan.spec.leftovers, supervisor, now)
    return _drain(files, supervisor)


def _server(files: JobFiles, history: History | None) -> str:
    """Return what the server or the supervisor has to do for a job without a process of its own."""
    if files.history_error:
        return "Nothing: its history is unreadable, so it is LOST. The server has to journal this."
    if history is None:
        return _before_the_record(files)
    assert history.end is not None
    ending = history.end.ending
    reason = f" ({ending.reason})" if isinstance(ending, Lost) else ""
    return f"The job has ended{reason}. The server has to journal the end and release the job."


def _before_the_record(files: JobFiles) -> str:
    if files.awaits_record:
        return "The supervisor to record the cloned process: the history has no name yet."
    if any(channel.in_fifo is not None for channel in files.channels):
        return "The supervisor to clone the process: cgroups and FIFOs are there, the history is not."
    return "Nothing: the end is journaled, and the supervisor has released the job."


def _main_process(files: JobFiles, main: int, supervisor: Mapping[str, Any], now: float) -> str:
    process = next((each for each in files.processes if each.pid == main), None)
    if process is not None and process.before_exec:
        return f"Process {main} to execute the command (execve(2)): it is between clone and exec."
    full = [channel for channel in files.channels if channel.in_fifo]
    trouble = supervisor.get("output_trouble")
    if trouble and full:
        return f"Its output to be recorded: {trouble}. The job blocks once the pipe is full."
    return f"Process {main} to exit{_state(process)}.{_deadline(supervisor, now)}"


def _leftovers(files: JobFiles, leftovers: Leftovers, supervisor: Mapping[str, Any], now: float) -> str:
    left = ", ".join(f"{each.pid}{_state(each)}" for each in files.processes)
    policy = " (--leftovers=wait: they are not signalled)" if leftovers is Leftovers.WAIT else ""
    return f"Processes that outlive the main process: {left}{policy}.{_deadline(supervisor, now)}"


def _drain(files: JobFiles, supervisor: Mapping[str, Any]) -> str:
    waiting = sum(channel.in_fifo or 0 for channel in files.channels)
    trouble = supervisor.get("output_trouble")
    why = f": {trouble}" if trouble else ""
    if not files.recorder:
        why = ": no recorder runs, the supervisor starts one"
    return f"The recorder to drain the output; {waiting} bytes are in the FIFOs{why}."


def _state(process: JobProcess | None) -> str:
    if process is None:
        return ""
    if process.state == "D":
        return " (state D: the kernel cannot kill it before its system call returns)"
    if process.state == "T":
        return " (state T: stopped)"
    return f" (state {process.state})"


def _deadline(supervisor: Mapping[str, Any], now: float) -> str:
    deadline = supervisor.get("deadline")
    if deadline is None:
        return ""
    number = supervisor["next_signal"]
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f" {name} follows in {max(0.0, deadline - now):.1f} s."
