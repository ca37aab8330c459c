"""Logging of a whole process: the standard library's loggers in our line format."""

import logging

from .lines import DEFAULT, line, log_steps

_current = DEFAULT


def current() -> tuple[str, str]:
    """Return the level and the format of this process's log."""
    return _current


def configure(role: str, level: str, form: str) -> None:
    """Log to stderr as the process ``role``, at one of LEVELS and in one of FORMATS.

    Replaces an earlier choice. At the level debug there is a line for each step of a job, too.
    """
    global _current  # noqa: PLW0603 - a process has one log
    _current = level, form
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(role, form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    log_steps(role, level, form)


class _Lines(logging.Formatter):
    """Formats a record as ``line`` does."""

    def __init__(self, role: str, form: str) -> None:
        super().__init__()
        self._role = role
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Return the one line of an event, its traceback included."""
        exception = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return line(
            self._role,
            self._form,
            at=record.created,
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
            **exception,
        )
