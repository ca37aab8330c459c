"""Bounds on the size of a record: a client chooses what many of its fields contain."""

import json
from collections.abc import Collection, Iterable
from operator import attrgetter

from ..model.limits import IO_RATES, LIMIT_NAMES, ResourceLimits
from .record import AuditRecord

LONGEST_TEXT = 1024
"""Characters of a field."""

LONGEST_ITEM = 4096
"""Characters of an item of a list, such as an argument."""

LONGEST_LIST = 32768
"""Characters of a list, with one for the end of each item."""

LONGEST_LINE = 65536
"""Bytes of a record: JSON has up to twelve for a character."""

LONGEST_DENIAL = 4096
"""Bytes of a record about a call that is denied: whoever may do nothing must not displace other records."""

_MOST_DEVICES = 64
_NO_LIMITS = ResourceLimits()
_WHOLE = frozenset({"time", "event", "id", "method", "allowed", "serial", "fingerprint", "job", "cut"})
"""Fields that are short, and tell nothing if they are cut."""

_NAMES = 1024
"""Bytes for the names of the fields, and for ``cut``."""

_every_limit = attrgetter(*LIMIT_NAMES)


def bounded(record: AuditRecord) -> AuditRecord:
    """Return a record whose texts and lists are within the bounds; ``cut`` names those that were not."""
    cut = []
    for name, value in record.items():
        if isinstance(value, str):
            if len(value) > LONGEST_TEXT:
                cut.append(name)
        elif isinstance(value, list) and _too_long(value):
            cut.append(name)
    if not cut:
        return record
    within = {name: _within(record[name]) for name in cut}  # type: ignore[literal-required]
    return {**record, **within, "cut": [*record.get("cut", ()), *cut]}  # type: ignore[typeddict-item]


def fitted(record: AuditRecord, most: int) -> AuditRecord:
    """Return a record of at most so many bytes of JSON; ``cut`` names the fields that were cut."""
    values: dict[str, object] = dict(record)
    sizes = {name: _size(value) for name, value in values.items()}
    cut = dict.fromkeys(record.get("cut", ()))
    while sum(sizes.values()) + _NAMES > most:
        largest = max(sizes.keys() - _WHOLE, key=lambda name: sizes[name])
        values[largest] = _half(values[largest])
        if sizes[largest] == (size := _size(values[largest])):
            break  # a number
        sizes[largest] = size
        cut[largest] = None
    return {**values, "cut": list(cut)} if cut else record  # type: ignore[typeddict-item]


def _size(value: object) -> int:
    return len(json.dumps(value))


def _half(value: object) -> object:
    match value:
        case str() if len(value) > 1:
            return value[: len(value) // 2]
        case [item]:
            return [_half(item)]
        case list():
            return value[: (len(value) + 1) // 2]
        case dict():
            largest = max(value, key=lambda name: _size(value[name]))
            return {**value, largest: _half(value[largest])}
    return value


def first_items(items: Collection[str]) -> tuple[list[str], bool]:
    """Return the items that are within the bounds of a list, and whether anything is missing."""
    if sum(map(len, items)) + len(items) <= LONGEST_ITEM:  # as of almost all commands
        return list(items), False
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
    values = _set(zip(LIMIT_NAMES, _every_limit(limits), strict=True))
    if limits.io:
        values["io"] = [
            {"device": part.device[:LONGEST_TEXT]} | _set((name, getattr(part, name)) for name in IO_RATES)
            for part in limits.io[:_MOST_DEVICES]
        ]
    if limits.unlimited:
        values["unlimited"] = list(limits.unlimited)
    return values


def _set(values: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {
        name: value[:LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in values
        if value is not None
    }


def _too_long(items: list[str]) -> bool:
    sizes = [*map(len, items)]
    return max(sizes, default=0) > LONGEST_ITEM or sum(sizes) + len(sizes) > LONGEST_LIST


def _within(value: object) -> object:
    match value:
        case str():
            return value[:LONGEST_TEXT]
        case list():
            return first_items(value)[0]
    return value
