"""The log of the server on stderr: one line per event, without floods of the same message."""

import logging

from ..linux.logs.handler import configure


def log_to_stderr(level: str, form: str) -> None:
    """Log events of this level and above to stderr; supervisors and recorders will do the same."""
    configure("server", level, form)
    logging.getLogger("asyncio").addFilter(RepeatFilter())
    logging.getLogger("hpack").setLevel(logging.INFO)  # at the debug level it logs every header


class RepeatFilter(logging.Filter):
    """Drops a message that was logged less than a second ago.

    Without free descriptors asyncio logs each failed accept(2), and retries a hundred times in a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ""
        self._logged_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a repeated message."""
        message = record.getMessage()
        if message == self._last and 0 <= record.created - self._logged_at < 1:
            return False
        self._last, self._logged_at = message, record.created
        return True
