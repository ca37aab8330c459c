"""What the supervisor writes down of a job, so that nothing is lost with it.

A file of lines of JSON, each appended before what it tells is acted upon:

    {"start": ...}   which process the job is; before that is let go
    {"executed": true}
    {"main": ...}    how the main process ended; before that is reaped
    {"end": ...}     how the job ended; before anybody is told

The death of the supervisor cannot tear a line. A loss of power or a full disk can: it does not count then.
"""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.ending import End, Ending
from .values import (
    SpawnPlan,
    end_from_message,
    end_to_message,
    ending_from_message,
    ending_to_message,
    plan_from_message,
    plan_to_message,
)


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
    """All that is written down of a job; ``main`` has the OOM kills until the main process ended.

    Without ``executed`` nobody knows whether the process ever became the command.
    """

    start: StartRecord
    executed: bool = False
    main: tuple[Ending, int] | None = None
    end: End | None = None


def write_start(path: Path, record: StartRecord) -> None:
    """Write down that a job has a process; OSError if the disk refuses."""
    start = {
        "pid": record.pid,
        "start": record.start,
        "boot_id": record.boot_id,
        "started_at": record.started_at,
        "deadline": record.deadline,
        "plan": plan_to_message(record.plan),
    }
    _append(path, {"start": start}, os.O_CREAT)


def write_executed(path: Path) -> None:
    """Write down that the process has become the command."""
    _append(path, {"executed": True})


def write_main(path: Path, ending: Ending, oom_kills: int) -> None:
    """Write down how the main process ended, while others may be left."""
    _append(path, {"main": ending_to_message(ending), "oom_kills": oom_kills})


def write_end(path: Path, end: End) -> None:
    """Write down the end of a job."""
    _append(path, {"end": end_to_message(end)})


def read_history(path: Path) -> History | None:
    """Return what is written down, None if the job has no process that anybody knows of."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    facts: dict[str, Any] = {}
    for line in lines:
        try:
            facts.update(json.loads(line))
        except ValueError:  # empty, or torn
            continue
    if "start" not in facts:
        return None
    main = ending_from_message(facts.get("main"))
    return History(
        start=_start_record(facts["start"]),
        executed="executed" in facts,
        main=None if main is None else (main, facts["oom_kills"]),
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


def _append(path: Path, message: Mapping[str, object], flags: int = 0) -> None:
    line = f"\n{json.dumps(message)}".encode()  # after a torn line, too, it begins on its own
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
    try:
        if os.write(fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)
