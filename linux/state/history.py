"""The history of a job: what the supervisor records on disk, so that its successor can continue.

A file of lines of JSON. Each line is appended before the supervisor acts on it:

    {"start": ...}       the plan and the supervisor's generation; written under a provisional name, before
                         there is a process
    {"process": ...}     the main process; written by itself before its exec (linux/zygote/child.c), which
                         then gives the file its final name: a history without it is damaged
    {"never_executed":}  the process never executed the command; written by the process
    {"generation": ...}  another generation has adopted the job
    {"input_end": ...}   after how many bytes the input ends; written before the job reads its end
    {"termination": ...} which processes get which signal when; written before a signal is sent, so that no
                         process gets one twice. If the supervisor dies in between, it gets none
    {"main": ...}        how the main process ended; written before it is reaped
    {"end": ...}         how the job ended; written before servers are notified

If the supervisor unlinks the provisional name first, the process never executes the command. If the
process gives the file its final name first, it is recorded.

The death of the supervisor cannot tear a line. A power loss or a full disk can; a torn line is ignored.
"""

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...core.errors import InvalidJobSpec
from ...core.lifecycle import MainEnded, Termination
from ...core.model.ending import Cause, End
from ..ipc.dataclass_messages import from_message, to_message
from ..ipc.encoding import (
    SpawnPlan,
    end_from_message,
    end_to_message,
    ending_from_message,
    ending_to_message,
    plan_from_message,
    plan_to_message,
)
from .job_directory import StrPath

_PROVISIONAL = ".starting-"
_PROVISIONAL_BEFORE = ".unborn"
"""Of the versions in which the supervisor recorded the process."""


class HistoryUnreadable(Exception):
    """The history of a job cannot be read, so its process is unknown."""


@dataclass(frozen=True, slots=True)
class StartRecord:
    """The main process of a job: identifies it after the death of its parent.

    ``start`` in clock ticks since boot (proc(5)), ``started_at`` seconds since 1970,
    ``deadline`` seconds of CLOCK_BOOTTIME. ``terminal`` is the number of the job's terminal: /dev/pts/N.
    """

    pid: int
    start: int
    boot_id: str
    started_at: float
    deadline: float | None
    plan: SpawnPlan
    terminal: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The contents of a history.

    ``generation`` is that of the job's supervisor, see linux/state/generations.py; ``never_executed``:
    no instruction of the command has run, or ever will.
    """

    start: StartRecord
    generation: str = ""
    never_executed: bool = False
    input_end: int | None = None
    termination: Termination | None = None
    main: MainEnded | None = None
    end: End | None = None


def provisional_path(path: StrPath, attempt: int) -> str:
    """Return the name of a history before its process is recorded.

    Each attempt to clone needs its own: a child of an earlier one must not rename the file of the next.
    """
    return f"{path}{_PROVISIONAL}{attempt}"


def create_history(
    path: StrPath,
    attempt: int,
    record: StartRecord,
    generation: str,
) -> int:
    """Create a history under its provisional name, without the process; OSError if that fails.

    Returns the descriptor with which the process records itself, and its supervisor what follows.
    """
    start = {
        "boot_id": record.boot_id,
        "started_at": record.started_at,
        "deadline": record.deadline,
        "terminal": record.terminal,
        "plan": plan_to_message(record.plan, os.path.dirname(path)),
    }
    provisional = provisional_path(path, attempt)
    history = _create(provisional)
    try:
        _write(history, {"start": start, "generation": generation})
    except OSError:
        os.close(history)
        os.unlink(provisional)
        raise
    return history


def _create(provisional: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(provisional, flags, 0o600)
    except FileNotFoundError:  # the output store keeps output elsewhere
        os.mkdir(os.path.dirname(provisional), 0o700)
    return os.open(provisional, flags, 0o600)


def provisional_histories(path: StrPath) -> list[str]:
    """Return the provisional names that exist: a start has begun whose process is not recorded yet."""
    directory, name = os.path.split(path)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    prefixes = tuple(f"{name}{suffix}" for suffix in (_PROVISIONAL, _PROVISIONAL_BEFORE))
    return [f"{directory}/{each}" for each in names if each.startswith(prefixes)]


def revoke_start(path: StrPath) -> None:
    """Unlink the provisional names: a process that is not recorded yet will never execute the command.

    If there is a history afterwards, the process has recorded itself before.
    """
    for each in provisional_histories(path):
        with suppress(FileNotFoundError):
            os.unlink(each)


def generation_of_start(provisional: str) -> str | None:
    """Return the generation that began a start; None if it was not written, or the start is over."""
    try:
        with open(provisional, "rb") as file:
            generation = _facts(file.read()).get("generation")
    except FileNotFoundError:
        return None
    return generation if isinstance(generation, str) else None


def open_history(path: StrPath) -> int:
    """Return a descriptor for further records; OSError if it cannot be opened."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def remove_history(path: StrPath) -> None:
    """Delete the history of a job: no supervisor knows its process from then on. Idempotent."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def write_generation(history: int, generation: str) -> None:
    """Record that this generation has adopted the job."""
    _write(history, {"generation": generation})


def write_termination(history: int, termination: Termination) -> None:
    """Record which signals have been sent, or are sent next."""
    record: dict[str, object] = {"termination": to_message(termination)}
    if termination.cause is Cause.STOPPED:  # all that supervisors of earlier versions read
        record["stop"] = [termination.signal, termination.kill_at]
    _write(history, record)


def write_input_end(history: int, offset: int) -> None:
    """Record after how many bytes the input ends."""
    _write(history, {"input_end": offset})


def write_main(history: int, main: MainEnded) -> None:
    """Record how the main process ended; leftovers may still run."""
    _write(
        history,
        {"main": ending_to_message(main.ending), "oom_kills": main.oom_kills, "cause": main.cause},
    )


def write_end(history: int, end: End) -> None:
    """Record the end of a job."""
    _write(history, {"end": end_to_message(end)})


def read_history(path: StrPath) -> History | None:
    """Return the history, None if no process of the job was recorded.

    Raises HistoryUnreadable for contents that no supervisor writes.
    """
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HistoryUnreadable(str(error)) from error
    facts = _facts(text)
    if "start" not in facts:
        if "stillborn" in facts:  # protocol 1
            return None
        raise HistoryUnreadable(f"{path} does not name a main process")
    try:
        return _history(facts, os.path.dirname(path))
    except (InvalidJobSpec, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise HistoryUnreadable(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _facts(text: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in text.split(b"\n"):
        try:
            fact = json.loads(line)
        except ValueError:  # empty, torn or damaged
            continue
        if isinstance(fact, dict):
            facts.update(fact)
    return facts


def _history(facts: Mapping[str, Any], directory: str) -> History:
    main = ending_from_message(facts.get("main"))
    return History(
        start=_start_record({**facts["start"], **facts.get("process", {})}, directory),
        generation=facts.get("generation", ""),
        never_executed="never_executed" in facts or "stillborn" in facts,  # before the zygote in C
        input_end=facts.get("input_end"),
        termination=_termination(facts),
        main=MainEnded(main, facts["oom_kills"], Cause(facts.get("cause", Cause.NONE))) if main else None,
        end=end_from_message(facts["end"]) if "end" in facts else None,
    )


def _termination(facts: Mapping[str, Any]) -> Termination | None:
    if "termination" in facts:
        return from_message(Termination, facts["termination"])
    if "stop" in facts:  # an earlier version, which signals every process at once
        number, kill_at = facts["stop"]
        cause = Cause(facts.get("cause", Cause.STOPPED))
        return Termination(number, True, None, kill_at, cause)
    return None


def _start_record(message: Mapping[str, Any], directory: str) -> StartRecord:
    return StartRecord(
        message["pid"],
        message["start"],
        message["boot_id"],
        message["started_at"],
        message["deadline"],
        plan_from_message(message["plan"], directory),
        message.get("terminal"),
    )


def _write(fd: int, message: Mapping[str, object]) -> None:
    line = f"\n{json.dumps(message)}".encode()  # the leading newline separates it from a torn line
    if os.write(fd, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
