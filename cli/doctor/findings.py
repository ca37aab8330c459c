"""What `worker doctor` finds."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How good a finding is; a warning: works, with less than there could be."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this machine and, unless all is well, what helps."""

    verdict: Verdict
    subject: str
    text: str
    remedy: str = ""

    @property
    def told(self) -> str:
        """The fact and the remedy as one sentence."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def ok(subject: str, text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(Verdict.OK, subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """Return that something is less good than it could be."""
    return Finding(Verdict.WARNING, subject, text, remedy)


def missing(subject: str, text: str, remedy: str) -> Finding:
    """Return that something is required and not there."""
    return Finding(Verdict.MISSING, subject, text, remedy)


def tried(
    subject: str, probe: Callable[[], None], failed: Callable[[str, str, str], Finding], remedy: str
) -> Finding:
    """Return what came of a probe that raises OSError when the thing does not work."""
    try:
        probe()
    except OSError as error:
        return failed(subject, f"does not work: {error.strerror or error}", remedy)
    return ok(subject, "works")
