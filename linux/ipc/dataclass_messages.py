"""Dataclasses as JSON objects, by their fields: a new field is written in its class alone.

Without cattrs: the supervisor uses this, and must stay small. A reader ignores fields that it does not
know, and takes the default of a field that is missing: it can read what other versions have written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from .framing import Message

_T = TypeVar("_T")
_Reader = Callable[[Any], Any]


def to_message(value: object) -> "Message":
    """Return the fields of a dataclass, and of those in it, as JSON has them."""
    instance: Any = value
    return {each.name: _plain(getattr(value, each.name)) for each in fields(instance)}


def from_message(kind: type[_T], message: Mapping[str, object]) -> _T:
    """Return a dataclass from its fields.

    Raises TypeError, ValueError or AttributeError, or what the class raises, for what is none.
    """
    made: _T = _reader(kind)(message)
    return made


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int, float)):  # also of an enumeration
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return to_message(value)


def _reader(kind: Any) -> _Reader:
    """Return what makes a value of this type, an annotation of a field, from JSON."""
    if kind not in _READERS:
        _READERS[kind] = _make_reader(kind)
    return _READERS[kind]


_READERS: dict[object, _Reader] = {}


def _make_reader(kind: Any) -> _Reader:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _reader_of_fields(kind)
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
    made: _Reader = kind  # an enumeration
    return made


_PLAIN: Mapping[type, type | tuple[type, ...]] = {str: str, int: int, bool: bool, float: (int, float)}


def _reader_of_fields(kind: Any) -> _Reader:
    readers = {each.name: _reader(each.type) for each in fields(kind)}

    def read(message: Mapping[str, object]) -> object:
        known = {name: value for name, value in message.items() if name in readers}
        return kind(**{name: readers[name](value) for name, value in known.items()})

    return read


def _checked(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind}")
    return value
