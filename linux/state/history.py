"""What the supervisor writes down of a job, so that nothing is lost with it.

A file of lines of JSON, each appended before what it tells is acted upon:

    {"start": ...}       which process the job is, and whose; before it is let go, and before the file
                         has its name: a history without it has been spoiled
    {"stillborn": ...}   by the process itself (linux/newborn.py), that it never became the command
    {"generation": ...}  whose the job is now: a supervisor has taken it over from a dead one
    {"stop": ...}        somebody wants it to end; before it is signalled
    {"main": ...}        how the main process ended; before that is reaped
    {"end": ...}         how the job ended; before anybody is told

The death of the supervisor cannot tear a line. A loss of power or a full disk can: it does not count then.
"""

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...core.lifecycle import MainEnded
from ...core.model.ending import Cause, End
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


class HistoryUnreadable(Exception):
    """What is written down of a job cannot be read, and so nobody knows its process."""


@dataclass(frozen=True, slots=True)
class StartRecord:
    """Which process a job is, so that it is known again without its parent.

    ``start`` in clock ticks since boot (proc(5)), ``started_at`` seconds since 1970,
    ``deadline`` seconds of CLOCK_BOOTTIME.
    """

    pid: int
    start: int
    boot_id: str
    started_at: float
    deadline: float | None
    plan: SpawnPlan


@dataclass(frozen=True, slots=True)
class History:
    """All that is written down of a job.

    ``generation`` is that of its supervisor, see linux/state/generations.py; ``stillborn``: no
    instruction of the command has run, or ever will; ``stop``: with which signal it was asked to
    end, and the boottime at which it is to be killed.
    """

    start: StartRecord
    generation: str = ""
    stillborn: bool = False
    stop: tuple[int, float] | None = None
    main: MainEnded | None = None
    end: End | None = None


def open_history(path: StrPath) -> int:
    """Begin a history, and return the descriptor that it is written to; FileExistsError if there is one.

    It has its name once its start is written.
    """
    return os.open(_unborn(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def write_start(path: StrPath, history: int, record: StartRecord, generation: str) -> None:
    """Write down that a job has a process; OSError if the disk refuses."""
    start = {
        "pid": record.pid,
        "start": record.start,
        "boot_id": record.boot_id,
        "started_at": record.started_at,
        "deadline": record.deadline,
        "plan": plan_to_message(record.plan),
    }
    _write(history, {"start": start, "generation": generation})
    os.rename(_unborn(path), path)


def remove_history(path: StrPath) -> None:
    """Forget a job: from here on it has no process that anybody knows of. Idempotent."""
    for each in (_unborn(path), path):
        with suppress(FileNotFoundError):
            os.unlink(each)


def write_generation(path: StrPath, generation: str) -> None:
    """Write down whose job it is now."""
    _append(path, {"generation": generation})


def write_stop(path: StrPath, signal: int, kill_at: float) -> None:
    """Write down that somebody wants the job to end."""
    _append(path, {"stop": [signal, kill_at]})


def write_main(path: StrPath, main: MainEnded) -> None:
    """Write down how the main process ended, while others may be left."""
    _append(
        path,
        {"main": ending_to_message(main.ending), "oom_kills": main.oom_kills, "cause": main.cause},
    )


def write_end(path: StrPath, end: End) -> None:
    """Write down the end of a job."""
    _append(path, {"end": end_to_message(end)})


def read_history(path: StrPath) -> History | None:
    """Return what is written down, None if the job has no process that anybody knows of.

    Raises HistoryUnreadable for what no supervisor has written like that.
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
        if "stillborn" in facts:  # as an earlier version has written it
            return None
        raise HistoryUnreadable(f"{path} does not tell which process it is about")
    try:
        return _history(facts)
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise HistoryUnreadable(f"{path} makes no sense: {type(error).__name__}: {error}") from error


def _unborn(path: StrPath) -> str:
    """Return where a history lies as long as its process may not be let go."""
    return f"{path}.unborn"


def _facts(text: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in text.split(b"\n"):
        try:
            fact = json.loads(line)
        except ValueError:  # empty, torn, or spoiled
            continue
        if isinstance(fact, dict):
            facts.update(fact)
    return facts


def _history(facts: Mapping[str, Any]) -> History:
    main = ending_from_message(facts.get("main"))
    return History(
        start=_start_record(facts["start"]),
        generation=facts.get("generation", ""),
        stillborn="stillborn" in facts,
        stop=tuple(facts["stop"]) if "stop" in facts else None,
        main=MainEnded(main, facts["oom_kills"], Cause(facts.get("cause", Cause.NONE))) if main else None,
        end=end_from_message(facts["end"]) if "end" in facts else None,
    )


def _start_record(message: Mapping[str, Any]) -> StartRecord:
    return StartRecord(
        message["pid"],
        message["start"],
        message["boot_id"],
        message["started_at"],
        message["deadline"],
        plan_from_message(message["plan"]),
    )


def _append(path: StrPath, message: Mapping[str, object]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        _write(fd, message)
    finally:
        os.close(fd)


def _write(fd: int, message: Mapping[str, object]) -> None:
    line = f"\n{json.dumps(message)}".encode()  # after a torn line, too, it begins on its own
    if os.write(fd, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
