"""The port of the audit log. Supervisor and recorder do not load it, so the package does not either."""

from typing import Protocol


class AuditLog(Protocol):
    """Stores the records of the audit. No method waits for a slow reader."""

    def write(self, line: bytes) -> None:
        """Append a record as one line of JSON; raise OSError if it is not stored."""
        ...

    def reopen(self) -> None:
        """Open the log again, because another program has moved it away; raise OSError if that fails."""
        ...

    def close(self) -> None:
        """Close the log."""
        ...
