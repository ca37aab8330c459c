"""The log of the server on stderr: one line per event, without floods of the same message."""

import logging

from .terminal.console import printable


def log_to_stderr(level: str) -> None:
    """Log events of this level and above to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("asyncio").addFilter(RepeatFilter())


class OneLineFormatter(logging.Formatter):
    """Formats an event, including its traceback, as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return printable(super().format(record))


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
