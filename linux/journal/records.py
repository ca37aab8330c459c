"""Job records as the text of a row, and back."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any
from uuid import UUID

import cattrs

from ...core.model.ending import End, Exited, Lost, Signaled
from ...core.model.job import JobRecord, JobSpec
from ...core.model.limits import ResourceLimits
from ..ipc.dataclass_messages import to_message
from ..ipc.encoding import end_from_message, end_to_message

_SHARED = 256

_MOST_INT32, _MOST_UINT64 = 1 << 31, 1 << 64

_YEAR_10000 = 253_402_300_800.0
"""The first time that no client can show (datetime)."""

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
    "execution": to_message,
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
    """Return the record in a row; may raise anything for a row that is not ours.

    Every value has its type and a possible size: one that no client accepts would make every list fail.
    """
    record = json.loads(text)
    if "owner" in record:  # thousands of jobs share few different owners
        record["owner"] = sys.intern(record["owner"])
    record["spec"]["command"] = sys.intern(record["spec"]["command"])
    made = _CONVERTER.structure(record, JobRecord)
    if made.pid is not None and made.pid >= _MOST_INT32:
        raise ValueError(f"pid {made.pid}")
    return made


def _end(message: Mapping[str, Any], _: object) -> End:
    end = end_from_message(message)
    for number in (end.oom_kills, *end.output.values(), *end.missing.values()):
        _number(number, int)
    _seconds(end.ended_at, float)
    match end.ending:
        case Exited(number) | Signaled(number) if _number(number, int) >= _MOST_INT32 >> 1:
            raise ValueError(f"ending {number}")
        case Lost(reason):
            _text(reason, str)
    return end


def _number(value: object, _: object) -> int:
    """Return a number that the API can carry: all of them count something."""
    if type(value) is not int or not 0 <= value < _MOST_UINT64:
        raise ValueError(f"{value!r} is not a possible number")
    return value


def _seconds(value: object, _: object) -> float:
    """Return a time, a duration or a rate."""
    if type(value) not in {int, float} or not 0 <= value < _YEAR_10000:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not a possible time")
    return value  # type: ignore[return-value]


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    if not value.isascii():
        value.encode()  # UnicodeEncodeError for a lone surrogate
    return value


def _texts(value: object, _: object) -> Sequence[str]:
    if not isinstance(value, list):  # a text is a sequence of texts too
        raise TypeError(f"{value!r} is not a list")
    return [_text(each, str) for each in value]


def _switch(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _optional(hook: Callable[[object, object], object]) -> Callable[[object, object], object]:
    return lambda value, kind: None if value is None else hook(value, kind)


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


def _converter() -> cattrs.Converter:
    # Naming the invalid field would cost a try for each field; a row is valid or invalid as a whole.
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    # cattrs would convert what has another type, and call three functions for each of the optional fields.
    for kind, hook in ((int, _number), (float, _seconds), (str, _text)):
        converter.register_structure_hook(kind, hook)
        converter.register_structure_hook(kind | None, _optional(hook))
    converter.register_structure_hook(bool, _switch)
    converter.register_structure_hook_func(lambda kind: kind == Sequence[str], _texts)
    converter.register_structure_hook(ResourceLimits, _shared(converter.get_structure_hook(ResourceLimits)))
    converter.register_structure_hook(End, _end)
    return converter


_CONVERTER = _converter()
