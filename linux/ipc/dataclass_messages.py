"""Dataclasses as JSON objects, by their fields: a new field is written in its class alone.

Without cattrs: the supervisor uses this, and must stay small. As in the journal, a field with its default
value is not written, so a default must never change. A reader ignores fields that it does not know: it can
read what other versions have written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from .framing import Message

_T = TypeVar("_T")
_Convert = Callable[[Any], Any]

_PLAIN: Mapping[object, type | tuple[type, ...]] = {
    str: str,
    int: int,
    bool: bool,
    float: (int, float),
}


def to_message(value: object) -> "Message":
    """Return the fields of a dataclass, and of those in it, that differ from their defaults."""
    message: Message = _writer(type(value))(value)
    return message


def from_message(kind: type[_T], message: Mapping[str, object]) -> _T:
    """Return a dataclass from its fields.

    Raises TypeError, ValueError or AttributeError, or the errors of the class, for invalid fields.
    """
    made: _T = _reader(kind)(message)
    return made


_WRITERS: dict[object, _Convert] = {}
_READERS: dict[object, _Convert] = {}
"""The converters made so far, by the type in the annotation of a field."""


def _writer(kind: Any) -> _Convert:
    if kind not in _WRITERS:
        _WRITERS[kind] = _make_writer(kind)
    return _WRITERS[kind]


def _make_writer(kind: Any) -> _Convert:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _make_fields_writer(kind)
    if origin is UnionType:  # always ``X | None``, and None is a default or plain
        return _writer(arguments[0])
    if origin in {tuple, Sequence}:
        item = _writer(arguments[0])
        return list if item is _same else lambda value: [item(each) for each in value]
    if origin is Mapping:
        return dict
    return _same  # also an enumeration: json writes its value


def _same(value: Any) -> Any:
    return value


def _make_fields_writer(kind: Any) -> _Convert:
    parts = []
    for each in fields(kind):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        parts.append((each.name, default, _writer(each.type)))

    def write(instance: object) -> "Message":
        message: Message = {}
        for name, default, part in parts:
            value = getattr(instance, name)
            if value is not default and value != default:
                message[name] = part(value)
        return message

    return write


def _reader(kind: Any) -> _Convert:
    if kind not in _READERS:
        _READERS[kind] = _make_reader(kind)
    return _READERS[kind]


def _make_reader(kind: Any) -> _Convert:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _make_fields_reader(kind)
    if origin is UnionType:  # always ``X | None``
        known = _reader(arguments[0])
        return lambda value: None if value is None else known(value)
    if origin in {tuple, Sequence}:
        item = _reader(arguments[0])
        return lambda value: tuple([item(each) for each in _checked(value, list)])
    if origin is Mapping:
        item = _reader(arguments[1])
        return lambda value: {key: item(each) for key, each in value.items()}
    if kind in _PLAIN:
        return lambda value: _checked(value, _PLAIN[kind])
    made: _Convert = kind  # an enumeration
    return made


def _make_fields_reader(kind: Any) -> _Convert:
    readers = {each.name: _reader(each.type) for each in fields(kind)}

    def read(message: Mapping[str, object]) -> object:
        known = {name: readers[name](value) for name, value in message.items() if name in readers}
        return kind(**known)

    return read


def _checked(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind}")
    return value
