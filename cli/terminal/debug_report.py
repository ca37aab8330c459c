"""The report of `worker debug`, as text and as JSON."""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from signal import Signals
from typing import Any, cast

from ...core.lifecycle import MainEnded, Termination
from ...core.model.ending import Ending, Exited, Lost, Signaled
from ...core.model.job import JobStatus
from ...linux.diagnosis.files import JobFiles
from ...linux.diagnosis.inspect import NoAnswer
from ...linux.state.history import History
from .console import printable
from .job_object import JobObject, job_object
from .printed_objects import (
    DebugObject,
    HolderObject,
    JobProcessObject,
    NoAnswerObject,
    PlacementObject,
    RecordedChannelObject,
)


@dataclass(frozen=True, slots=True)
class DebugReport:
    """The answer of each source about a job; a text is the reason why there is none.

    ``files`` None: there are none.
    """

    job: str
    server: JobStatus | str
    supervisor: Mapping[str, Any] | NoAnswer
    files: JobFiles | str | None
    waits_for: str


def report_lines(report: DebugReport) -> list[str]:
    """Return the report as lines of text."""
    lines = [f"Job {report.job}", f"Waits for: {report.waits_for}", f"Server: {_server(report.server)}"]
    files = report.files
    if files is None or isinstance(files, str):
        lines.append(f"Files: {files or 'none on this machine in WORKER_HOME'}")
        return [printable(line) for line in lines]
    lines += [f"Supervisor: {_supervisor(files, report.supervisor)}"]
    lines += [f"Recorder: {_recorder(files)}"]
    lines += [f"History: {files.directory}/history", *(f"  {line}" for line in _history(files))]
    lines += ["Placement:", *(f"  {line}" for line in _placement(files.history))]
    lines += ["Processes:", *(f"  {line}" for line in _processes(files))]
    lines += ["Open files:", *(f"  {line}" for line in _holders(files))]
    lines += ["Output:", *(f"  {line}" for line in _output(files))]
    return [printable(line) for line in lines]


def report_object(report: DebugReport) -> DebugObject:
    """Return the report as a JSON object."""
    files = None if isinstance(report.files, str) else report.files
    server: JobObject | NoAnswerObject
    server = {"error": report.server} if isinstance(report.server, str) else job_object(report.server)
    answer = report.supervisor
    supervisor: dict[str, object] = (
        {"error": answer.reason} if isinstance(answer, NoAnswer) else dict(answer)
    )
    supervisor.pop("call", None)
    return {
        "job": report.job,
        "waits_for": report.waits_for,
        "server": server,
        "supervisor": {"pid": files.supervisor if files else 0, **supervisor},
        "recorder": {"pid": files.recorder if files else 0},
        "history": list(_history(files)) if files else [],
        "placement": _placement_object(files.history) if files and files.history else None,
        "processes": [cast("JobProcessObject", asdict(each)) for each in files.processes] if files else [],
        "holders": [cast("HolderObject", asdict(each)) for each in files.holders] if files else [],
        "output": [cast("RecordedChannelObject", asdict(each)) for each in files.channels] if files else [],
    }


def _placement_object(history: History) -> PlacementObject:
    return cast("PlacementObject", asdict(history.start.plan.placement))


def _server(status: JobStatus | str) -> str:
    if isinstance(status, str):
        return status
    ending = f", {_ending(status.ending)}" if status.ending else ""
    return f"state {status.state}{ending}"


def _supervisor(files: JobFiles, answer: Mapping[str, Any] | NoAnswer) -> str:
    process = f"process {files.supervisor}: " if files.supervisor else ""
    if isinstance(answer, NoAnswer):
        return f"{process}{answer.reason}"
    facts = [f"state {answer['state']}", f"step {answer['step']}"]
    if answer.get("unwritten"):
        facts.append(f"{answer['unwritten']} writes are retried: {answer['write_error']}")
    if answer.get("output_trouble"):
        facts.append(f"output cannot be recorded: {answer['output_trouble']}")
    return process + ", ".join(facts)


def _recorder(files: JobFiles) -> str:
    if files.history is None:
        return "no history names the generation of this job"
    return f"process {files.recorder}" if files.recorder else "does not run"


def _history(files: JobFiles) -> Iterator[str]:
    if files.history_error:
        yield f"unreadable: {files.history_error}"
    elif files.awaits_record:
        yield "not complete yet: it does not name the process of the job"
    history = files.history
    if history is None:
        return
    start = history.start
    at = datetime.fromtimestamp(start.started_at).astimezone().isoformat(timespec="milliseconds")
    yield f"start: process {start.pid}, cloned at {at}, generation {history.generation}"
    yield f"command: {shlex.join(start.plan.argv)}"
    if history.never_executed:
        yield "the child exited before it executed the command"
    if history.termination is not None:
        yield f"termination: {_termination(history.termination)}"
    if history.main is not None:
        yield f"main process ended: {_main(history.main)}"
    if history.end is not None:
        sizes = ", ".join(f"{channel} {size} bytes" for channel, size in history.end.output.items())
        yield f"end: {_ending(history.end.ending)}, cause {history.end.cause}, {sizes}"


def _termination(termination: Termination) -> str:
    """Return the recorded signals; times are boot times."""
    number, others_at = _signal(termination.signal), termination.others_at
    sent = [
        *([f"{number} to the main process"] if termination.main_signaled else []),
        f"{number} to the others" + (f" at {others_at:.1f} s" if others_at is not None else ""),
        f"SIGKILL at {termination.kill_at:.1f} s",
    ]
    return ", then ".join(sent)


def _main(main: MainEnded) -> str:
    return f"{_ending(main.ending)}, cause {main.cause}"


def _placement(history: History | None) -> Iterator[str]:
    placement = history.start.plan.placement if history else None
    groups = [*([placement.unified] if placement.unified else []), *placement.legacy] if placement else []
    for group in groups:
        yield group if os.path.isdir(group) else f"{group} (removed)"
    if placement is None:
        yield "unknown: there is no history"
    elif not groups:
        yield "no cgroup: the job's session and the processes that inherited WORKER_JOB_ID"


def _processes(files: JobFiles) -> Iterator[str]:
    for each in files.processes:
        note = " (before its exec)" if each.before_exec else ""
        yield f"{each.pid} {each.state} {each.command}{note}"
    if not files.processes:
        yield "none"


def _holders(files: JobFiles) -> Iterator[str]:
    for each in files.holders:
        yield f"{each.pid} {each.command}: {', '.join(each.files)}"
    if not files.holders:
        yield "no process holds a file of the job open"


def _output(files: JobFiles) -> Iterator[str]:
    for each in files.channels:
        fifo = "the FIFO is removed" if each.in_fifo is None else f"{each.in_fifo} bytes in the FIFO"
        yield f"{each.channel}: bytes {each.first} to {each.end} are recorded, {fifo}"
    if not files.channels:
        yield "no segment is on disk"


def _ending(ending: Ending) -> str:
    match ending:
        case Exited(code):
            return f"exited with code {code}"
        case Signaled(number):
            return f"killed by {_signal(number)}"
        case Lost(reason):
            return f"lost: {reason}"


def _signal(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
