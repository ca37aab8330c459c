"""Bytes to messages, checked.

betterproto2 accepts truncated and mistyped fields as data, so messages are decoded here: one pass
over the bytes checks and builds. protobuf decodes everything that this decoder accepts to the same message.
It rejects more: fields of the wrong wire type, groups, integers out of range.
https://protobuf.dev/programming-guides/encoding/
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Generic, NamedTuple, TypeVar, get_args, get_type_hints

import betterproto2

MAX_REPLY_FIELDS = 1 << 21
"""Maximum fields of a reply: a list of 50,000 jobs."""

FIELDS_OF_MESSAGE, FIELDS_OF_ENTRY = 32, 16
"""A message, or an entry of a map, inside another one counts as so many more fields: an empty one takes two
bytes, and becomes an object of up to two thousand."""

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES = {
    _VARINT: "a varint",
    _FIXED64: "8 bytes",
    _LENGTH_DELIMITED: "length-delimited",
    _FIXED32: "4 bytes",
}

_Message = TypeVar("_Message", bound=betterproto2.Message)
_Value = object
_Decode = Callable[[bytes, int], tuple[_Value, int]]
_DecodeInside = Callable[[bytes, int, "_Count"], tuple[_Value, int]]


class MalformedMessage(ValueError):
    """The bytes are not a valid message of the requested type."""


def decode(data: bytes, message_type: type[_Message], most_fields: int = MAX_REPLY_FIELDS) -> _Message:
    """Return the message in these bytes; raise MalformedMessage if they are not one."""
    decoder = Decoder(data, message_type, most_fields)
    decoder.advance(most_fields + 1)
    return decoder.message()


class _Count:
    """How many more fields there may be, those of messages inside others included."""

    __slots__ = ("left", "most")

    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def use(self, fields: int) -> None:
        """Count fields; raise MalformedMessage if there are too many."""
        self.left -= fields
        if self.left < 0:
            raise MalformedMessage(f"there are more than {self.most} fields")


class Decoder(Generic[_Message]):
    """Decodes a message in parts, so that a long one does not hold up everything else."""

    def __init__(self, data: bytes, message_type: type[_Message], most_fields: int) -> None:
        self._data = data
        self._type = message_type
        self._count = _Count(most_fields)
        self._position = 0
        self._values: dict[str, object] = {}

    def advance(self, fields: int) -> bool:
        """Decode so many fields, and what is inside them; return whether that was all."""
        self._position = _read_fields(
            self._data,
            self._position,
            self._values,
            self._type.__name__,
            _fields(self._type),
            self._count,
            at_once=fields,
        )
        return self._position == len(self._data)

    def message(self) -> _Message:
        """Return the message, once everything is decoded."""
        return self._type(**self._values)


class _Field(NamedTuple):
    """How to read one field: ``decode`` takes data and position, and returns value and next position."""

    name: str
    wire_type: int
    decode: _Decode
    repeated: bool
    is_map: bool
    is_message: bool
    alternatives: Sequence[str] = ()
    """The other fields of its oneof."""
    decode_inside: _DecodeInside | None = None
    """Used instead of ``decode`` for a message inside this one."""


def _read_fields(
    data: bytes,
    position: int,
    values: dict[str, object],
    message: str,
    fields: Mapping[int, _Field],
    count: _Count,
    *,
    at_once: int = -1,
    closed: bool = False,
) -> int:
    """Add the values by field name, and return where to continue.

    Stops after ``at_once`` fields. A ``closed`` message may have no unknown fields.
    """
    end = len(data)
    while position < end and at_once:
        at_once -= 1
        count.use(1)
        tag, position = _read_tag(data, position)
        field = fields.get(tag >> 3)
        if field is None:
            if closed:
                raise MalformedMessage(f"{message} has an unknown field {tag >> 3}")
            position = _skip(data, position, tag)
            continue
        if tag & 7 != field.wire_type:
            raise MalformedMessage(
                f"{message}.{field.name} is {_WIRE_TYPES.get(tag & 7, 'a group')}, "
                f"must be {_WIRE_TYPES[field.wire_type]}"
            )
        try:
            if field.decode_inside is not None:
                value, position = field.decode_inside(data, position, count)
            else:
                value, position = field.decode(data, position)
        except MalformedMessage as error:
            raise MalformedMessage(f"{message}.{field.name}: {error}") from None
        _store(values, field, value)
    return position


def _store(values: dict[str, object], field: _Field, value: object) -> None:
    if field.is_map:
        assert isinstance(value, tuple)
        entries = values.setdefault(field.name, {})
        assert isinstance(entries, dict)
        entries[value[0]] = value[1]
    elif field.repeated:
        items = values.setdefault(field.name, [])
        assert isinstance(items, list)
        items.append(value)
    elif field.is_message and field.name in values:
        raise MalformedMessage(f"{field.name} is given twice")  # protobuf would merge the two
    elif other := next((name for name in field.alternatives if name in values), None):
        raise MalformedMessage(f"{other} and {field.name} exclude each other")  # protobuf would drop one
    else:
        values[field.name] = value


@cache
def _fields(message_type: type[betterproto2.Message]) -> dict[int, _Field]:
    """Return the readers of a message's fields by field number."""
    # betterproto2 would evaluate all annotations again for each field: half the cost of a first call.
    types = get_type_hints(message_type)
    fields = {}
    declared_fields = dataclasses.fields(message_type)  # type: ignore[arg-type] # Message itself is none
    oneofs: dict[str, list[str]] = {}
    for declared in declared_fields:
        if group := betterproto2.FieldMetadata.get(declared).group:
            oneofs.setdefault(group, []).append(declared.name)
    for declared in declared_fields:
        meta = betterproto2.FieldMetadata.get(declared)
        kind = meta.proto_type
        # Only field types that our .proto files use are implemented.
        assert not (meta.repeated and kind in betterproto2.PACKED_TYPES)
        assert all(each.proto_type == betterproto2.TYPE_STRING for each in meta.map_meta or ())
        fields[meta.number] = _Field(
            name=declared.name,
            wire_type=_VARINT if kind in _VARINT_READERS else _LENGTH_DELIMITED,
            decode=_reader(kind, types[declared.name]),
            repeated=bool(meta.repeated),
            is_map=kind == betterproto2.TYPE_MAP,
            is_message=kind == betterproto2.TYPE_MESSAGE,
            alternatives=[name for name in oneofs.get(meta.group or "", ()) if name != declared.name],
            decode_inside=_inside_reader(kind, types[declared.name]),
        )
    return fields


def _reader(kind: str, declared: type) -> _Decode:
    if kind == betterproto2.TYPE_ENUM:
        # The first argument of `State | None`; an enum itself has none.
        inner = next(iter(get_args(declared)), declared)
        return lambda data, position: _read_enum(data, position, inner)
    return _READERS.get(kind, _read_bytes)


def _inside_reader(kind: str, declared: type) -> _DecodeInside | None:
    if kind == betterproto2.TYPE_MAP:
        return _read_entry
    if kind != betterproto2.TYPE_MESSAGE:
        return None
    # The first argument of `Limits | None` and `list[IoLimit]`.
    inner = next(iter(get_args(declared)), declared)
    return lambda data, position, count: _read_message(data, position, count, inner)


def _read_message(
    data: bytes, position: int, count: _Count, message_type: type[betterproto2.Message]
) -> tuple[betterproto2.Message, int]:
    count.use(FIELDS_OF_MESSAGE)
    content, end = _read_bytes(data, position)
    values: dict[str, object] = {}
    _read_fields(content, 0, values, message_type.__name__, _fields(message_type), count)
    return message_type(**values), end


def _read_entry(data: bytes, position: int, count: _Count) -> tuple[tuple[object, object], int]:
    count.use(FIELDS_OF_ENTRY)
    content, end = _read_bytes(data, position)
    entry: dict[str, object] = {}
    # protobuf drops an entry that has an unknown field.
    _read_fields(content, 0, entry, "Entry", _ENTRY_FIELDS, count, closed=True)
    return (entry.get("key", ""), entry.get("value", "")), end


def _read_enum(data: bytes, position: int, enum_type: type) -> tuple[object, int]:
    """Return a member, or an unnamed one for an unknown number; translate.py rejects those."""
    number, end = _read_int32(data, position)
    return enum_type(number), end


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for end in range(position, min(position + 10, len(data))):
        byte = data[end]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                raise MalformedMessage("a varint is longer than 64 bits")
            return value, end + 1
        shift += 7
    if len(data) - position < 10:
        raise MalformedMessage("the message is cut short")
    raise MalformedMessage("a varint is longer than 64 bits")


def _read_short_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a tag or length; protobuf reads at most 5 bytes, and 32 bits of their value."""
    value, end = _read_varint(data, position)
    if end - position > 5 or value >= 1 << 32:
        raise MalformedMessage("a tag or length is longer than 32 bits")
    return value, end


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    tag, end = _read_short_varint(data, position)
    if tag < 8:
        raise MalformedMessage("field number 0")
    return tag, end


def _read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    size, start = _read_short_varint(data, position)
    end = start + size
    if end > len(data):
        raise MalformedMessage("the message is cut short")
    return data[start:end], end


def _read_string(data: bytes, position: int) -> tuple[str, int]:
    content, end = _read_bytes(data, position)
    try:
        return content.decode(), end
    except UnicodeDecodeError:
        raise MalformedMessage("is not valid UTF-8") from None


def _read_bool(data: bytes, position: int) -> tuple[bool, int]:
    value, end = _read_varint(data, position)
    return value != 0, end


def _read_uint32(data: bytes, position: int) -> tuple[int, int]:
    value, end = _read_varint(data, position)
    if value >= 1 << 32:
        raise MalformedMessage(f"{value} does not fit 32 bits")
    return value, end


def _read_int64(data: bytes, position: int) -> tuple[int, int]:
    value, end = _read_varint(data, position)
    return (value - (1 << 64) if value >= 1 << 63 else value), end


def _read_int32(data: bytes, position: int) -> tuple[int, int]:
    value, end = _read_int64(data, position)
    if not -(1 << 31) <= value < 1 << 31:
        raise MalformedMessage(f"{value} does not fit 32 bits")
    return value, end


def _skip(data: bytes, position: int, tag: int) -> int:
    """Return the end of an unknown field; newer clients may send such fields."""
    match tag & 7:
        case 0:
            return _read_varint(data, position)[1]
        case 1:
            end = position + 8
        case 2:
            return _read_bytes(data, position)[1]
        case 5:
            end = position + 4
        case other:
            raise MalformedMessage(f"field {tag >> 3} has wire type {other}, which is obsolete")
    if end > len(data):
        raise MalformedMessage("the message is cut short")
    return end


_VARINT_READERS: dict[str, _Decode] = {
    betterproto2.TYPE_BOOL: _read_bool,
    betterproto2.TYPE_ENUM: _read_int32,
    betterproto2.TYPE_INT32: _read_int32,
    betterproto2.TYPE_INT64: _read_int64,
    betterproto2.TYPE_UINT32: _read_uint32,
    betterproto2.TYPE_UINT64: _read_varint,
}
_READERS: dict[str, _Decode] = {
    **_VARINT_READERS,
    betterproto2.TYPE_STRING: _read_string,
    betterproto2.TYPE_BYTES: _read_bytes,
}
_ENTRY_FIELDS = {
    number: _Field(name, _LENGTH_DELIMITED, _read_string, repeated=False, is_map=False, is_message=False)
    for number, name in ((1, "key"), (2, "value"))
}
