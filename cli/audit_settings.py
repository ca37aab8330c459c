"""The settings of the audit log: type, help and default of each."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..core.audit.redaction import SECRET_WORDS, Redaction
from .options.parameters import COUNT, SIZE, SWITCH, Parsed, positive

FILE, JOURNALD, STDOUT, OFF = "file", "journald", "stdout", "off"
CONTINUE, REFUSE = "continue", "refuse"

DEFAULT_WORDS = "default"
"""Stands for the default words in a list of words."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """``audit`` is a target or the path of a file, ``audit_size`` is in bytes."""

    audit: str = FILE
    audit_size: int = 20 << 20
    audit_keep: int = 10
    audit_reads: bool = False
    audit_failure: str = CONTINUE
    audit_redact: str = DEFAULT_WORDS

    @property
    def refuses(self) -> bool:
        """Whether calls are refused that cannot be recorded."""
        return self.audit_failure == REFUSE

    @property
    def redaction(self) -> Redaction:
        """What is left out of commands."""
        words: list[str] = []
        for word in self.audit_redact.split(","):
            words += SECRET_WORDS if word == DEFAULT_WORDS else [word]
        return Redaction([] if self.audit_redact == "none" else words)


def _parse_target(text: str) -> str:
    if text not in {FILE, JOURNALD, STDOUT, OFF} and not text.startswith("/"):
        raise ValueError(f"use {FILE}, the absolute path of a file, {JOURNALD}, {STDOUT} or {OFF}")
    return text


def _parse_failure(text: str) -> str:
    if text not in {CONTINUE, REFUSE}:
        raise ValueError(f"use {CONTINUE} or {REFUSE}")
    return text


def _parse_words(text: str) -> str:
    words = [word.strip() for word in text.split(",")]
    if not all(word.strip("-_.") for word in words):
        raise ValueError("write words, separated by commas, or none")
    return ",".join(words)


_REDACT_HELP = (
    "Words in the names of secrets, whose values are left out of the audit log, or none; "
    f"{DEFAULT_WORDS} stands for {', '.join(SECRET_WORDS)}."
)

_KINDS_AND_HELP: Mapping[str, tuple[Parsed, str]] = {
    "audit": (
        Parsed("TARGET", _parse_target),
        f"Where the audit log goes: {FILE} (WORKER_HOME/audit.log), a path, {JOURNALD}, {STDOUT} or {OFF}.",
    ),
    "audit_size": (SIZE, "Size at which the file of the audit log is rotated; 0: never."),
    "audit_keep": (positive(COUNT), "How many rotated files are kept."),
    "audit_reads": (SWITCH, "Whether calls that only read are recorded in the audit log, too."),
    "audit_failure": (
        Parsed(f"{CONTINUE}|{REFUSE}", _parse_failure),
        "What happens with calls that cannot be recorded; Stop and Remove are always possible.",
    ),
    "audit_redact": (
        Parsed("WORDS", _parse_words),
        _REDACT_HELP,
    ),
}

AUDIT_SETTINGS: Mapping[str, tuple[Parsed, str, object]] = {
    each.name: (*_KINDS_AND_HELP[each.name], each.default) for each in fields(AuditSettings)
}
"""Type, help and default of each setting, in the order of AuditSettings."""
