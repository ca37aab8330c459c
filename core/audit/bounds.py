"""Bounds on the size of a record: a client chooses what many of its fields contain."""

from collections.abc import Iterable
from operator import attrgetter

from ..model.limits import IO_RATES, LIMIT_NAMES, ResourceLimits
from .record import AuditRecord

LONGEST_TEXT = 1024
"""Characters of a field."""

LONGEST_ITEM = 4096
"""Characters of an item of a list, such as an argument."""

LONGEST_LIST = 32768
"""Characters of a list, with one for the end of each item."""

_MOST_DEVICES = 64
_NO_LIMITS = ResourceLimits()


def bounded(record: AuditRecord) -> AuditRecord:
    """Return a record whose texts and lists are within the bounds; ``cut`` names those that were not."""
    cut = {name: _within(value) for name, value in record.items() if _too_long(value)}
    if not cut:
        return record
    return {**record, **cut, "cut": [*record.get("cut", ()), *cut]}  # type: ignore[typeddict-item] # same types


def first_items(items: Iterable[str]) -> tuple[list[str], bool]:
    """Return the items that are within the bounds of a list, and whether anything is missing."""
    found: list[str] = []
    left, cut = LONGEST_LIST, False
    for item in items:
        kept = item[: min(LONGEST_ITEM, left)]
        cut |= len(kept) < len(item)
        left -= len(kept) + 1
        if left < 0:
            return found, True
        found.append(kept)
    return found, cut


def limit_values(limits: ResourceLimits) -> dict[str, object]:
    """Return the limits that are set, by their names; those of devices are in the list ``io``."""
    if limits == _NO_LIMITS:
        return {}
    values: dict[str, object] = {name: attrgetter(name)(limits) for name in LIMIT_NAMES}
    if limits.io:
        values["io"] = [
            {"device": part.device[:LONGEST_TEXT]} | _set({name: getattr(part, name) for name in IO_RATES})
            for part in limits.io[:_MOST_DEVICES]
        ]
    if limits.unlimited:
        values["unlimited"] = list(limits.unlimited)
    return _set(values)


def _set(values: dict[str, object]) -> dict[str, object]:
    return {
        name: value[:LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def _too_long(value: object) -> bool:
    match value:
        case str():
            return len(value) > LONGEST_TEXT
        case list():
            return sum(map(len, value)) + len(value) > LONGEST_LIST or any(
                len(item) > LONGEST_ITEM for item in value
            )
    return False


def _within(value: object) -> object:
    match value:
        case str():
            return value[:LONGEST_TEXT]
        case list():
            return first_items(value)[0]
    return value
