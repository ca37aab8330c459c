"""A record of the audit log: the events, the fields, and the one line of JSON that a record becomes.

docs/how-to/audit.md describes each event and each field; tests/unit/test_audit_page.py compares.
"""

import json
import time
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import TypedDict


class Event(StrEnum):
    """What a record is about."""

    SERVER_STARTED = "server_started"
    SERVER_STOPPED = "server_stopped"
    RELOADED = "reloaded"
    CONNECTION_OPENED = "connection_opened"
    CONNECTION_CLOSED = "connection_closed"
    HANDSHAKE_FAILED = "handshake_failed"
    DECISION = "decision"
    OUTCOME = "outcome"
    JOB_STARTED = "job_started"
    JOB_RECOVERED = "job_recovered"
    JOB_ENDED = "job_ended"
    JOB_REMOVED = "job_removed"
    RECORDS_LOST = "records_lost"


class AuditRecord(TypedDict, total=False):
    """The fields of a record; one that does not apply is missing."""

    time: str
    event: Event
    id: str
    identity: str
    issuer: str
    roles: list[str]
    serial: str
    fingerprint: str
    address: str
    method: str
    allowed: bool
    rule: str
    reason: str
    job: str
    job_name: str
    command: list[str]
    environment: list[str]
    secrets: list[str]
    executable: str
    wrap: list[str]
    directory: str
    user: str
    limits: dict[str, object]
    ulimits: list[str]
    labels: list[str]
    stdin: bool
    terminal: bool
    new_privileges: bool
    signal: int
    input: bool
    cut: list[str]
    code: str
    message: str
    duration: float
    sent: int
    received: int
    pid: int
    started_at: str
    ended_at: str
    exit_code: int
    cause: str
    output: int
    count: int
    since: str


_LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999, the last that the format has."""

# No record contains itself.
_encode = json.JSONEncoder(ensure_ascii=True, check_circular=False, separators=(",", ":")).encode


class KnownFields:
    """Fields that several records have, none of them empty: their JSON is made once."""

    __slots__ = ("json", "record")

    def __init__(self, record: AuditRecord) -> None:
        self.record = record
        self.json = _json(record)[1:-1]


def line(record: AuditRecord, known: Iterable[KnownFields] = ()) -> bytes:
    """Return a record, with fields that are known, as one line of ASCII with its newline.

    Control characters and all others are escaped: no value can end the line or begin another one. A lone
    surrogate, which is no character, is written as the text of its escape, because many readers of JSON
    reject a line that has one.
    """
    text = ",".join((_json(record)[:-1], *[each.json for each in known]))
    return f"{text}}}\n".encode("ascii")


def merged(record: AuditRecord, known: Iterable[KnownFields]) -> AuditRecord:
    """Return all fields of a record."""
    cut = [name for each in (record, *(part.record for part in known)) for name in each.get("cut", ())]
    for each in known:
        record = record | each.record
    return record | {"cut": cut} if cut else record


def _json(record: AuditRecord) -> str:
    text = _encode(record)
    if "\\ud" in text:
        text = _encode({name: _well_formed(value) for name, value in record.items()})
    return text


def _well_formed(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case list():
            return [_well_formed(each) for each in value]
        case dict():
            return {_well_formed(name): _well_formed(each) for name, each in value.items()}
    return value


def timestamp(seconds: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 has it, in UTC with microseconds."""
    second, microseconds = divmod(round(min(max(seconds, 0.0), _LAST_SECOND) * 1e6), 1_000_000)
    return f"{_to_the_second(second)}.{microseconds:06}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    """Return the first part of a time; most records of a second have the same."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
