"""Writing to the audit log: what it cannot store is counted, and the trouble is reported."""

import logging
from collections.abc import Sequence

from ..ports.audit import AuditLog
from ..ports.journal import Clock
from .bounds import LONGEST_DENIAL, LONGEST_LINE, LONGEST_TEXT, bounded, fitted
from .record import AuditRecord, Event, KnownFields, line, merged, timestamp

_REPORT_INTERVAL = 60.0
"""Seconds between two reports of the same trouble."""

log = logging.getLogger(__name__)


class AuditWriter:
    """Writes records to an audit log; ``trouble`` is why the last one is not stored, empty if it is."""

    def __init__(self, destination: AuditLog, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._lost = 0
        self._lost_since = 0.0
        self._reported_at = 0.0
        self.trouble = ""

    def write(self, record: AuditRecord, known: Sequence[KnownFields]) -> bool:
        """Append a record, after one about those that were lost before it; return whether it is stored."""
        try:
            if self._lost:
                self._resume(record["time"])
            text = line(record, known)
            if len(text) > LONGEST_TEXT:  # otherwise no part of it can be too long
                whole = bounded(merged(record, known))
                most = LONGEST_LINE if whole.get("allowed", True) else LONGEST_DENIAL
                text = line(fitted(whole, most))
            self._destination.write(text)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def reopen(self) -> None:
        """Open the log again; if that fails, it goes on as it was."""
        try:
            self._destination.reopen()
        except OSError as error:
            log.warning("cannot reopen the audit log, records still go to the old file: %s", error)

    def close(self) -> None:
        """Close the log."""
        self._destination.close()

    def _resume(self, now: str) -> None:
        gap: AuditRecord = {
            "time": now,
            "event": Event.RECORDS_LOST,
            "count": self._lost,
            "since": timestamp(self._lost_since),
            "reason": self.trouble,
        }
        self._destination.write(line(gap))
        log.warning("the audit log can be written again; %s missing", _records(self._lost))
        self._lost = 0
        self.trouble = ""

    def _failed(self, error: OSError) -> None:
        now = self._clock.now()
        if not self._lost:
            self._lost_since = now
        self._lost += 1
        trouble = error.strerror or str(error)
        if trouble != self.trouble or not 0 <= now - self._reported_at < _REPORT_INTERVAL:
            self._reported_at = now
            log.error("the audit log cannot be written: %s; %s missing", error, _records(self._lost))
        self.trouble = trouble


def _records(count: int) -> str:
    return f"{count} record{' is' if count == 1 else 's are'}"
