"""docs/how-to/audit.md describes each event, field and setting, and its examples are true."""

import re
from pathlib import Path

from worker.cli.audit_settings import AUDIT_SETTINGS
from worker.core.audit.bounds import LONGEST_ITEM, LONGEST_LIST, LONGEST_TEXT
from worker.core.audit.record import AuditRecord, Event
from worker.core.audit.redaction import SECRET_WORDS, Redaction

from ..support.audit_page import PAGE, rows

ROOT = Path(__file__).parent.parent.parent


def test_events() -> None:
    """The table has each event once, in the order of the code, with fields that exist."""
    found = rows("Events")
    assert [f"`{event}`" for event in Event] == [event for event, _, _ in found]
    for _, _, fields in found:
        assert set(fields.split(", ")) <= AuditRecord.__annotations__.keys()


def test_fields() -> None:
    """The table has each field once, in the order of the code, and each belongs to an event."""
    assert [f"`{name}`" for name in AuditRecord.__annotations__] == [name for name, _ in rows("Fields")]
    used = {field for _, _, fields in rows("Events") for field in fields.split(", ")}
    assert AuditRecord.__annotations__.keys() - {"time", "event"} == used


def test_settings() -> None:
    """The example has each setting."""
    assert list(AUDIT_SETTINGS) == re.findall(r"^(audit\w*) = ", PAGE, re.MULTILINE)


def test_bounds() -> None:
    """The page has the bounds of the code."""
    assert (
        f"texts at {LONGEST_TEXT} characters, arguments at {LONGEST_ITEM}, a list at {LONGEST_LIST}" in PAGE
    )


def test_secrets() -> None:
    """The words are those of the code, and each form is redacted as the table shows it."""
    assert ", ".join(f"`{word}`" for word in SECRET_WORDS) in " ".join(PAGE.split())
    for form, recorded in rows("Secrets"):
        command = form.strip("`").split(" ") if form.startswith("`--") else [form.strip("`")]
        assert recorded.strip("`") == " ".join(Redaction().command(command))


def test_the_defences_have_tests() -> None:
    """Each row about the audit in docs/explanation/security.md names tests that exist."""
    for threat, *_, tests in rows("Audit", (ROOT / "docs" / "explanation" / "security.md").read_text()):
        named = re.findall(r"`(\w+\.py)::(\w+)`", tests)
        assert named, threat
        for file, name in named:
            (path,) = (ROOT / "tests").glob(f"*/{file}")
            assert re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE), name
