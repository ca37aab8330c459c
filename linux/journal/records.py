"""Job records as the text of a row, and back."""

import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any
from uuid import UUID

import cattrs

from ...core.model.ending import End
from ...core.model.job import JobRecord, JobSpec
from ...core.model.limits import ResourceLimits
from ..ipc.dataclass_messages import to_message
from ..ipc.encoding import end_from_message, end_to_message

_SHARED = 256

_encode = json.JSONEncoder(ensure_ascii=False).encode


def spec_to_text(spec: JobSpec) -> str:
    """Return the text of a job spec: a record is written several times, its spec is encoded once."""
    return _encode(to_message(spec))


def record_to_text(record: JobRecord, spec: str) -> str:
    """Return the text of a row, without fields that have their defaults; ``spec`` is that of its spec."""
    rest = {}
    for name, default, write in _FIELDS:
        value = getattr(record, name)
        if value is not default and value != default:
            rest[name] = write(value)
    return f'{{"spec": {spec}, {_encode(rest)[1:]}'


_WRITERS: dict[str, Callable[[Any], object]] = {
    "id": str,
    "end": end_to_message,
    "limits": to_message,
    "usage": to_message,
    "warnings": list,
}
"""How the fields of a record are written that are not JSON types themselves."""


def _same(value: object) -> object:
    return value


_FIELDS = [
    (
        each.name,
        each.default if each.default_factory is MISSING else each.default_factory(),
        _WRITERS.get(each.name, _same),
    )
    for each in fields(JobRecord)
    if each.name != "spec"
]
"""Name, default (MISSING: none) and writer of each field but the spec."""


def record_from_text(text: bytes) -> JobRecord:
    """Return the record in a row; may raise anything for a row that is not ours."""
    record = json.loads(text)
    if "owner" in record:  # thousands of jobs share few different owners
        record["owner"] = sys.intern(record["owner"])
    record["spec"]["command"] = sys.intern(record["spec"]["command"])
    return _CONVERTER.structure(record, JobRecord)


def _shared(
    structure: Callable[[object, type], ResourceLimits],
) -> Callable[[object, type], ResourceLimits]:
    """Return equal limits as one object: thousands of jobs share few different limits, each twice."""
    known: dict[str, ResourceLimits] = {}

    def structured(part: object, kind: type) -> ResourceLimits:
        key = repr(part)  # it contains only JSON types; takes a quarter of the time of json.dumps
        limits = known.get(key)
        if limits is None:
            limits = structure(part, kind)
            if len(known) < _SHARED:
                known[key] = limits
        return limits

    return structured


def _unchanged(value: object, _: object) -> object:
    return value


def _converter() -> cattrs.Converter:
    # Naming the invalid field would cost a try for each field; a row is valid or invalid as a whole.
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    # JSON has these types itself; cattrs would call three functions for each of the many optional fields.
    for kind in (int | None, float | None, str | None, int, float, str):
        converter.register_structure_hook(kind, _unchanged)
    converter.register_structure_hook(ResourceLimits, _shared(converter.get_structure_hook(ResourceLimits)))
    converter.register_structure_hook(End, lambda message, _: end_from_message(message))
    return converter


_CONVERTER = _converter()
