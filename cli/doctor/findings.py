"""The findings of `worker doctor`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of a check; WARNING: works with restrictions, MISSING: required and not available."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, the result, and the remedy unless the result is OK."""

    verdict: Verdict
    subject: str
    text: str
    remedy: str = ""

    @property
    def message(self) -> str:
        """The text and the remedy."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def ok(subject: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Verdict.OK, subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding about something that works with restrictions."""
    return Finding(Verdict.WARNING, subject, text, remedy)


def missing(subject: str, text: str, remedy: str) -> Finding:
    """Return a finding about something that is required and not available."""
    return Finding(Verdict.MISSING, subject, text, remedy)


def tried(
    subject: str,
    probe: Callable[[], None],
    failed: Callable[[str, str, str], Finding],
    remedy: str,
    special: Mapping[int, str] | None = None,
) -> Finding:
    """Return the result of a probe, which raises OSError if the feature does not work.

    ``special`` has the remedies for some numbers of the error, ``remedy`` is that for the others.
    """
    try:
        probe()
    except OSError as error:
        helps = (special or {}).get(error.errno or 0, remedy)
        return failed(subject, f"does not work: {error.strerror or error}", helps)
    return ok(subject, "works")
