"""Messages to bytes.

betterproto2's own `bytes(message)` computes the default of each field every time, under a lock on
warnings: most of the cost of a query (docs/explanation/performance.md).
https://protobuf.dev/programming-guides/encoding/
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import betterproto2

_EncodeField = Callable[[Any], bytes]

_VARINTS = {
    betterproto2.TYPE_BOOL,
    betterproto2.TYPE_ENUM,
    betterproto2.TYPE_INT32,
    betterproto2.TYPE_INT64,
    betterproto2.TYPE_UINT32,
    betterproto2.TYPE_UINT64,
}
_SMALL = [bytes([number]) for number in range(128)]


def encode(message: betterproto2.Message) -> bytes:
    """Return the bytes of a message."""
    return b"".join([put(getattr(message, name)) for name, put in _fields(type(message))])


def varint(number: int) -> bytes:
    """Return a number as a varint; a negative one as 64 bits of two's complement."""
    if 0 <= number < 128:
        return _SMALL[number]
    if number < 0:
        number += 1 << 64
    if not 0 <= number < 1 << 64:
        raise ValueError("a number does not fit 64 bits")
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@cache
def _fields(message_type: type[betterproto2.Message]) -> Sequence[tuple[str, _EncodeField]]:
    """Return the name and the encoder of each field; a field with its default value encodes to nothing."""
    fields = []
    for declared in dataclasses.fields(message_type):  # type: ignore[arg-type] # Message itself is none
        meta = betterproto2.FieldMetadata.get(declared)
        kind = meta.proto_type
        put: Callable[[bytes, Any], bytes]
        # Only field types that our .proto files use are implemented.
        assert not (meta.repeated and kind in _VARINTS)
        assert all(each.proto_type == betterproto2.TYPE_STRING for each in meta.map_meta or ())
        if kind == betterproto2.TYPE_MAP:
            put = _put_map
        elif kind in _VARINTS:
            put = _put_optional_varint if meta.optional else _put_varint
        elif kind == betterproto2.TYPE_STRING:
            put = _put_strings if meta.repeated else _put_optional_string if meta.optional else _put_string
        elif kind == betterproto2.TYPE_MESSAGE:
            put = _put_messages if meta.repeated else _put_message
        else:
            assert kind == betterproto2.TYPE_BYTES
            assert not meta.optional
            put = _put_many_bytes if meta.repeated else _put_bytes
        wire_type = 0 if kind in _VARINTS else 2
        fields.append((declared.name, partial(put, varint(meta.number << 3 | wire_type))))
    return fields


def _put_varint(tag: bytes, value: int) -> bytes:
    return tag + varint(value) if value else b""


def _put_optional_varint(tag: bytes, value: int | None) -> bytes:
    return b"" if value is None else tag + varint(value)


def _delimited(tag: bytes, content: bytes) -> bytes:
    return b"".join((tag, varint(len(content)), content))


def _put_bytes(tag: bytes, value: bytes) -> bytes:
    return _delimited(tag, value) if value else b""


def _put_many_bytes(tag: bytes, values: Sequence[bytes]) -> bytes:
    return b"".join([_delimited(tag, value) for value in values])


def _put_string(tag: bytes, value: str) -> bytes:
    return _delimited(tag, value.encode()) if value else b""


def _put_optional_string(tag: bytes, value: str | None) -> bytes:
    return b"" if value is None else _delimited(tag, value.encode())


def _put_strings(tag: bytes, values: Sequence[str]) -> bytes:
    return b"".join([_delimited(tag, value.encode()) for value in values])


def _put_message(tag: bytes, value: betterproto2.Message | None) -> bytes:
    return b"" if value is None else _delimited(tag, encode(value))


def _put_messages(tag: bytes, values: Sequence[betterproto2.Message]) -> bytes:
    return b"".join([_delimited(tag, encode(value)) for value in values])


def _put_map(tag: bytes, values: Mapping[str, str]) -> bytes:
    return b"".join(
        [
            _delimited(tag, _delimited(b"\x0a", key.encode()) + _delimited(b"\x12", value.encode()))
            for key, value in values.items()
        ]
    )
