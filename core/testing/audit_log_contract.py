"""The contract suite of AuditLog."""

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..audit.record import AuditRecord, Event, line
from ..ports.audit import AuditLog
from .contract import Contract

HOSTILE = 'two\nlines\r\0\x1b[2J \u2028 \N{SNOWMAN} \N{GRINNING FACE} "quoted" \\ WORKER_IDENTITY=root'


@dataclass
class AuditLogBench:
    """A log, what reads its records, and a context in which it can store nothing."""

    log: AuditLog
    read: Callable[[], Awaitable[list[AuditRecord]]]
    failing: Callable[[], AbstractContextManager[object]]


class AuditLogContract(Contract):
    """A suite of checks; ``make`` creates an empty log for each."""

    def __init__(self, make: Callable[[], AbstractContextManager[AuditLogBench]]) -> None:
        self._make = make

    async def check_order(self) -> None:
        """Records are read in the order in which they were written, each once."""
        with self._make() as bench:
            for number in range(8):
                _write(bench.log, _record(number))
            assert [_record(number) for number in range(8)] == await bench.read()

    async def check_hostile_text(self) -> None:
        """A value is read as it was, whatever a client put into it, and makes no second record."""
        with self._make() as bench:
            record: AuditRecord = {"event": Event.DECISION, "command": [HOSTILE], "user": HOSTILE}
            _write(bench.log, record)
            assert [record] == await bench.read()

    async def check_large_records(self) -> None:
        """A record of the largest size is stored whole."""
        with self._make() as bench:
            record: AuditRecord = {"event": Event.DECISION, "command": ["\N{GRINNING FACE}" * 32768]}
            _write(bench.log, record)
            assert [record] == await bench.read()

    async def check_failure(self) -> None:
        """What cannot be stored raises OSError and leaves no trace; what follows is stored."""
        with self._make() as bench:
            _write(bench.log, _record(1))
            with bench.failing():
                for number in (2, 3):
                    try:
                        _write(bench.log, _record(number))
                    except OSError:
                        continue
                    raise AssertionError("the record was stored")
            _write(bench.log, _record(4))
            assert [_record(1), _record(4)] == await bench.read()

    async def check_reopen(self) -> None:
        """A log that was opened again goes on."""
        with self._make() as bench:
            _write(bench.log, _record(1))
            bench.log.reopen()
            _write(bench.log, _record(2))
            assert [_record(1), _record(2)] == await bench.read()


def _record(number: int) -> AuditRecord:
    return {"event": Event.OUTCOME, "id": str(number), "duration": 0.5}


def _write(log: AuditLog, record: AuditRecord) -> None:
    log.write(line(record))


def parsed(text: bytes) -> list[AuditRecord]:
    """Return the records in lines of JSON; each line is complete."""
    return [json.loads(each) for each in text.splitlines(keepends=True) if _complete(each)]


def _complete(text: bytes) -> bool:
    assert text.endswith(b"\n")
    return True
