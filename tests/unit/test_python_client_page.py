"""docs/how-to/python-client.md names the field of each option of `worker start`, with values."""

import dataclasses
import re

import click

import worker.core
from worker.cli.commands.start import start
from worker.cli.help_page import CONNECTION
from worker.cli.options.limits import LIMITS
from worker.core import JobSpec

from ..support.page_tables import rows

TABLE = list(rows("how-to/python-client.md", "field"))
ARGUMENTS = {"request_id", "secrets"}
"""Of `Client.start`, which are no fields."""


def test_options() -> None:
    """Each option about the job is in the table, of the limits at least one."""
    named = set(re.findall("`(--[a-z-]+)`", " ".join(row["option"] for row in TABLE)))
    others = {*(limit.name for limit in LIMITS), *CONNECTION, "form", "help_all"}
    options = [
        each.opts for each in start.params if isinstance(each, click.Option) and each.name not in others
    ]
    assert [] == [names for names in options if not named & set(names)]
    assert named <= {name for each in start.params for name in each.opts}


def test_fields() -> None:
    """Each field that a request has is in the table, and no other."""
    named = {
        name for row in TABLE for name in re.findall(r"^`(\w+)`|, `(\w+)`", row["field"].split(":")[0])
    }
    fields = {each.name for each in dataclasses.fields(JobSpec)} - {"execution"}
    assert fields | ARGUMENTS == {name for pair in named for name in pair if name} - {"JobSpec"}


def test_values() -> None:
    """JobSpec takes each value that the table shows, with the classes of worker.core."""
    for row in TABLE:
        field, _, value = row["field"].partition(": ")
        if value.startswith("`") and "argument" not in field:
            text = value.strip("`")
            names = {name: getattr(worker.core, name) for name in re.findall(r"\b[A-Z]\w+(?=[(.])", text)}
            JobSpec("true", **{field.strip("`"): eval(text, names)})
