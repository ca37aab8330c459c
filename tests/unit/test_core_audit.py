"""Records of the audit: lines, bounds, and what happens when none can be stored."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.audit.bounds import (
    LONGEST_DENIAL,
    LONGEST_ITEM,
    LONGEST_LINE,
    LONGEST_LIST,
    LONGEST_TEXT,
    bounded,
    first_items,
    fitted,
    limit_values,
)
from worker.core.audit.record import AuditRecord, Event, line, timestamp
from worker.core.audit.redaction import MASK
from worker.core.audit.trail import AuditTrail
from worker.core.errors import AuditUnavailable
from worker.core.model.ending import Cause, Channel, End, Exited, Lost
from worker.core.model.execution import Execution
from worker.core.model.job import JobRecord, JobSpec, new_job_id
from worker.core.model.limits import CpuLimit, IoLimit, MemoryLimit, ResourceLimits
from worker.core.model.terminal import WindowSize
from worker.core.model.ulimits import Ulimit
from worker.core.testing import ManualClock, MemoryAuditLog
from worker.proto.worker import StartRequest
from worker.proto.worker import Ulimit as UlimitMessage

from ..support.audit_page import assert_documented

HOSTILE = st.text(st.characters(codec=None), max_size=50)
"""Any text, with control characters, lone surrogates and what else a client may send."""


def well_formed(text: str) -> str:
    """Return a text as it is recorded: a lone surrogate as the text of its escape."""
    return text.encode(errors="backslashreplace").decode()


@given(st.dictionaries(st.sampled_from(["identity", "user", "message", "job"]), HOSTILE), st.lists(HOSTILE))
def test_no_value_forges_a_line(texts: dict[str, str], command: list[str]) -> None:
    """A record is one line of printable ASCII, and each value is read as it was."""
    record: AuditRecord = {"event": Event.DECISION, "command": command, **texts}  # type: ignore[typeddict-item]
    text = line(record)
    assert text.endswith(b"\n")
    assert text[:-1].decode("ascii").isprintable()
    expected = {name: well_formed(value) for name, value in texts.items()}
    assert {"event": "decision", "command": list(map(well_formed, command)), **expected} == json.loads(text)


def test_a_line_that_looks_like_another_one() -> None:
    """A name with a newline and a whole record in it stays a value."""
    forged = 'alice"}\n{"event":"decision","identity":"bob","allowed":true}\n'
    text = line({"event": Event.OUTCOME, "identity": forged})
    assert 1 == text.count(b"\n")
    assert forged == json.loads(text)["identity"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000Z"),
        (-1.0, "1970-01-01T00:00:00.000000Z"),
        (1e300, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    """Times are UTC with microseconds; one that a damaged file contains is brought into the range."""
    assert text == timestamp(seconds)


@given(st.floats(0, 4e9))
def test_times_are_exact_to_the_microsecond(seconds: float) -> None:
    """A reader gets the same time back."""
    read = datetime.fromisoformat(timestamp(seconds))
    assert read.tzinfo is UTC or read.utcoffset() is not None
    assert abs(read.timestamp() - seconds) < 1e-6


def test_a_record_has_bounds() -> None:
    """Long texts and lists are cut, and the record says which."""
    record: AuditRecord = {
        "event": Event.DECISION,
        "identity": "i" * (LONGEST_TEXT + 1),
        "job": "j" * LONGEST_TEXT,
        "command": ["x" * (LONGEST_ITEM + 1), "y"],
        "environment": ["E"] * LONGEST_LIST,
    }
    found = bounded(record)
    assert "i" * LONGEST_TEXT == found["identity"]
    assert "j" * LONGEST_TEXT == found["job"]
    assert ["x" * LONGEST_ITEM, "y"] == found["command"]
    assert LONGEST_LIST // 2 == len(found["environment"])
    assert ["identity", "command", "environment"] == found["cut"]


@pytest.mark.parametrize(("allowed", "most"), [(True, LONGEST_LINE), (False, LONGEST_DENIAL)])
@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=20), size=st.integers(1, 1000), items=st.integers(1, 100))
def test_a_line_is_bounded(allowed: bool, most: int, text: str, size: int, items: int) -> None:  # noqa: FBT001
    """Whatever JSON makes of the characters; a denial, which anybody can cause, has less."""
    record: AuditRecord = {
        "time": "2026-01-31T12:00:00.123Z",
        "event": Event.DECISION,
        "id": "1",
        "allowed": allowed,
        "reason": text * size,
        "command": [text * size] * items,
        "environment": [text] * items,
        "limits": {"pids": 1, "io": [{"device": text * size, "read": 1}] * items},
    }
    found = fitted(bounded(record), most)
    assert len(line(found)) <= most
    assert record["id"] == found["id"]
    assert found == record or set(found["cut"]) <= record.keys()


@given(st.lists(st.text("x", max_size=5000), max_size=30))
def test_the_first_items_are_within_the_bounds(items: list[str]) -> None:
    """They are a beginning of the list, and it is known whether something is missing."""
    found, cut = first_items(items)
    assert sum(map(len, found)) + len(found) <= LONGEST_LIST
    assert all(len(item) <= LONGEST_ITEM for item in found)
    assert all(whole.startswith(part) for part, whole in zip(found, items, strict=False))
    assert cut == (found != items)


def test_limits() -> None:
    """Limits that are set are recorded by their names."""
    limits = ResourceLimits(
        cpu=CpuLimit(quota=0.5),
        memory=MemoryLimit(max=1024),
        io=(IoLimit("/dev/vda", read_bytes_per_second=1),),
        unlimited=("pids",),
    )
    assert {
        "cpu.quota": 0.5,
        "memory.max": 1024,
        "io": [{"device": "/dev/vda", "read_bytes_per_second": 1}],
        "unlimited": ["pids"],
    } == limit_values(limits)
    assert {} == limit_values(ResourceLimits())


NOON = 1_700_000_000.25


def job(spec: JobSpec | None = None, **fields: Any) -> JobRecord:
    """Return a job of alice."""
    spec = spec or JobSpec(
        "app", ["--token=x", "-v"], env={"SECRET": "y"}, user="nobody", working_directory="/srv"
    )
    started = {"pid": 7, "started_at": NOON, "limits": ResourceLimits(pids=5)}
    return JobRecord(new_job_id(), spec, "alice", "", NOON, **(started | fields))


def test_the_start_and_the_end_of_a_job() -> None:
    """The start has the command without secrets; the end has the true times, and how the job ended."""
    log = MemoryAuditLog()
    clock = ManualClock()
    trail = AuditTrail(log, clock=clock)
    ended = job(end=End(Exited(3), Cause.STOPPED, 0, {Channel.STDOUT: 5, Channel.STDERR: 2}, NOON + 1.5))
    trail.job_started(ended)
    trail.job_ended(ended)
    assert [
        {
            "time": timestamp(clock.now()),
            "event": "job_started",
            "job": str(ended.id),
            "identity": "alice",
            "command": ["app", f"--token={MASK}", "-v"],
            "environment": ["SECRET"],
            "directory": "/srv",
            "limits": {"pids": 5},
            "user": "nobody",
            "pid": 7,
            "started_at": "2023-11-14T22:13:20.250000Z",
        },
        {
            "time": timestamp(clock.now()),
            "event": "job_ended",
            "job": str(ended.id),
            "identity": "alice",
            "pid": 7,
            "started_at": "2023-11-14T22:13:20.250000Z",
            "ended_at": "2023-11-14T22:13:21.750000Z",
            "duration": 1.5,
            "exit_code": 3,
            "cause": "stopped",
            "output": 7,
        },
    ] == log.records


def test_the_options_of_a_job() -> None:
    """What a review looks for is recorded if it is not the default; values of labels have no secrets."""
    log = MemoryAuditLog()
    trail = AuditTrail(log)
    spec = JobSpec(
        "sh",
        labels={"team": "a", "api-token": "hunter2 and more", "url": "https://me:hunter2@x"},
        ulimits=[Ulimit("nofile", 5, 9), Ulimit("nproc", None, None)],
        stdin=True,
        terminal=WindowSize(24, 80),
        new_privileges=True,
    )
    options = {
        "labels": ["team=a", f"api-token={MASK}", f"url=https://me:{MASK}@x"],
        "ulimits": ["nofile=5:9", "nproc=unlimited:unlimited"],
        "stdin": True,
        "terminal": True,
        "new_privileges": True,
    }
    trail.job_started(job(spec=spec))
    trail.job_recovered(job())
    assert options.items() <= log.records[0].items()
    assert set() == options.keys() & log.records[1].keys()
    assert_documented(log.records)


def test_long_options_are_cut() -> None:
    """Labels and ulimits of a request, valid or not, keep the bound of a list, and the record says so."""
    log = MemoryAuditLog()
    trail = AuditTrail(log)
    request = StartRequest(
        labels={f"{number}": "v" * LONGEST_ITEM for number in range(64)},
        ulimits=[UlimitMessage(name="n" * LONGEST_ITEM) for _ in range(64)],
    )
    command = trail.command("c" * (LONGEST_ITEM + 1), (), {}, "/")
    trail.write(Event.DECISION, {"allowed": True} | trail.options(request), command)  # type: ignore[typeddict-item]
    (found,) = log.records
    assert {"ulimits", "labels", "command"} == set(found["cut"])
    for name in ("ulimits", "labels"):
        assert sum(map(len, found[name])) <= LONGEST_LIST  # type: ignore[literal-required]


def test_what_is_executed() -> None:
    """What a policy has found for the command, and the wrapper of its rule without secrets."""
    log = MemoryAuditLog()
    trail = AuditTrail(log)
    plain, wrapped = Execution("/usr/bin/app"), Execution("/usr/bin/app", ("/usr/bin/box", "--key-token=x"))
    for execution in (None, plain, wrapped):
        trail.job_started(job(execution=execution, issuer="CN=1"))
    trail.job_recovered(job(execution=wrapped))
    assert [
        (None, None, "CN=1"),
        ("/usr/bin/app", None, "CN=1"),
        ("/usr/bin/app", ["/usr/bin/box", f"--key-token={MASK}"], "CN=1"),
        ("/usr/bin/app", ["/usr/bin/box", f"--key-token={MASK}"], None),
    ] == [tuple(map(each.get, ("executable", "wrap", "issuer"))) for each in log.records]
    assert_documented(log.records)


def test_a_lost_job() -> None:
    """The cause is `lost`, with the reason."""
    log = MemoryAuditLog()
    end = End(Lost("the machine restarted"), Cause.NONE, 0, {}, NOON)
    AuditTrail(log).job_ended(job(end=end))
    assert ("lost", "the machine restarted", -1) == tuple(
        log.records[0][name] for name in ("cause", "reason", "exit_code")
    )


def test_a_long_command_is_cut_before_it_is_redacted() -> None:
    """What is recorded of a command is bounded, and says so."""
    record = (
        AuditTrail(MemoryAuditLog())
        .command("app", ["--token", "x" * 10_000, *["y" * 5000] * 20], {}, "/")
        .record
    )
    assert ["app", "--token", MASK, "y" * LONGEST_ITEM] == record["command"][:4]
    assert ["command"] == record["cut"]
    assert LONGEST_LIST >= sum(map(len, record["command"]))


def test_messages_are_redacted() -> None:
    """An error message may quote the command."""
    log = MemoryAuditLog()
    AuditTrail(log).write(Event.OUTCOME, {"message": "cannot execute 'mysql --password=x'"})
    assert f"cannot execute 'mysql --password={MASK}'" == log.records[0]["message"]


def test_records_that_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    """They are counted, the log says so once, and the first record after them has their number."""
    caplog.set_level(logging.INFO)
    log = MemoryAuditLog()
    trail = AuditTrail(log)
    assert trail.write(Event.OUTCOME, {"id": "1"})
    log.full = True
    for number in range(5):
        assert not trail.write(Event.OUTCOME, {"id": f"lost {number}"})
    assert "No space left on device" == trail.trouble
    log.full = False
    assert trail.write(Event.OUTCOME, {"id": "2"})
    assert "" == trail.trouble
    assert [
        ("outcome", "1", None, None),
        ("records_lost", None, 5, "No space left on device"),
        ("outcome", "2", None, None),
    ] == [tuple(each.get(name) for name in ("event", "id", "count", "reason")) for each in log.records]
    assert [
        "the audit log cannot be written: [Errno 28] No space left on device; 1 record is missing",
        "the audit log can be written again; 5 records are missing",
    ] == [each.getMessage() for each in caplog.records]


@pytest.mark.parametrize(
    ("refuses", "always", "refused"), [(False, False, False), (True, True, False), (True, False, True)]
)
def test_a_decision_that_cannot_be_recorded(refuses: bool, always: bool, refused: bool) -> None:  # noqa: FBT001
    """The setting decides whether the call may begin; what must always be possible may."""
    log = MemoryAuditLog()
    log.full = True
    trail = AuditTrail(log, refuses=refuses)
    if refused:
        with pytest.raises(AuditUnavailable, match=r"No space left on device \(setting audit_failure\)"):
            trail.decide({}, always=always)
    else:
        trail.decide({}, always=always)


def test_without_a_log() -> None:
    """Nothing is recorded, and nothing is refused."""
    trail = AuditTrail(reads=True, refuses=True)
    trail.decide({}, always=False)
    trail.job_started(job())
    trail.reopen()
    trail.close()
    assert not trail.enabled
    assert not trail.reads
    assert "" == trail.trouble
