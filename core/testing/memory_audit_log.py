"""An AuditLog in memory."""

import json
from errno import ENOSPC
from os import strerror
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..audit.record import AuditRecord


class MemoryAuditLog:
    """Keeps the records as a reader of the lines sees them; while ``full``, it stores nothing."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.full = False

    def write(self, line: bytes) -> None:
        """Keep a record."""
        if self.full:
            raise OSError(ENOSPC, strerror(ENOSPC))
        self.records.append(json.loads(line))

    def reopen(self) -> None:
        """Do nothing: there is no file."""

    def close(self) -> None:
        """Keep the records, to be read."""
