"""Decoding is checked: protobuf decodes everything that it accepts to the same message."""

import dataclasses
import inspect
from typing import Any

import betterproto2
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as GoogleMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.grpc.codec import MessageCodec
from worker.api.wire.decoding import Decoder, MalformedMessage, decode
from worker.api.wire.encoding import encode
from worker.proto import health, reflection
from worker.proto import worker as proto

from ..support.descriptors import compiled

MESSAGES = [
    cls
    for module in (proto, health, reflection)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, betterproto2.Message) and cls.__module__ == module.__name__
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    betterproto2.TYPE_BOOL: st.booleans(),
    betterproto2.TYPE_INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    betterproto2.TYPE_INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    betterproto2.TYPE_UINT32: st.integers(0, (1 << 32) - 1),
    betterproto2.TYPE_UINT64: st.integers(0, (1 << 64) - 1),
    betterproto2.TYPE_STRING: TEXT,
    betterproto2.TYPE_BYTES: st.binary(max_size=5),
    betterproto2.TYPE_MAP: st.dictionaries(TEXT, TEXT, max_size=3),
}


def values_of(message_type: type[betterproto2.Message], field: "dataclasses.Field[Any]") -> Any:
    """Return a strategy for one field."""
    meta = betterproto2.FieldMetadata.get(field)
    inner = message_type._betterproto.cls_by_field[field.name]
    if meta.proto_type == betterproto2.TYPE_MESSAGE:
        values: Any = messages(inner)
    elif meta.proto_type == betterproto2.TYPE_ENUM:
        values = st.sampled_from(list(inner))
    else:
        values = VALUES[meta.proto_type]
    if meta.repeated:
        return st.lists(values, max_size=3)
    return st.none() | values if meta.optional else values


def messages(message_type: type[betterproto2.Message]) -> st.SearchStrategy[betterproto2.Message]:
    """Return a strategy for messages of a type."""
    fields = dataclasses.fields(message_type)  # type: ignore[arg-type]
    values = {field.name: values_of(message_type, field) for field in fields}
    choices = [[field.name for field in group] for group in oneofs(message_type)]
    if not choices:
        return st.builds(message_type, **values)
    [names] = choices  # at most one field of a oneof has a value; no message has two
    always = {name: value for name, value in values.items() if name not in names}
    return st.sampled_from(names).flatmap(
        lambda chosen: st.builds(message_type, **always, **{chosen: values[chosen]})
    )


def oneofs(message_type: type[betterproto2.Message]) -> "list[list[dataclasses.Field[Any]]]":
    """Return the fields of each oneof of a message."""
    groups: dict[str, list[dataclasses.Field[Any]]] = {}
    for field in dataclasses.fields(message_type):  # type: ignore[arg-type]
        if group := betterproto2.FieldMetadata.get(field).group:
            groups.setdefault(group, []).append(field)
    return list(groups.values())


any_message = st.sampled_from(MESSAGES).flatmap(messages)
any_type = st.sampled_from(MESSAGES)


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> dict[str, type[GoogleMessage]]:
    """Return protobuf's classes for our messages by name."""
    files = compiled(tmp_path_factory.mktemp("proto"))
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        )
        for file in files
        for message in file.message_type
    }


def known_fields(parsed: GoogleMessage) -> bytes:
    """Return a canonical form of a message without unknown fields."""
    parsed.DiscardUnknownFields()  # type: ignore[attr-defined]
    return parsed.SerializeToString(deterministic=True)


def check_against_protobuf(
    google: dict[str, type[GoogleMessage]], message_type: type[betterproto2.Message], data: bytes
) -> None:
    """Assert that we reject the data, or that protobuf decodes it to the same message."""
    try:
        ours = decode(data, message_type)
    except MalformedMessage:
        return
    theirs = google[message_type.__name__]()
    theirs.ParseFromString(data)
    again = google[message_type.__name__]()
    again.ParseFromString(bytes(ours))
    assert known_fields(theirs) == known_fields(again)


@given(message=any_message)
def test_every_message_survives_the_round_trip(message: betterproto2.Message) -> None:
    """An encoded message is decoded to an equal one."""
    codec = MessageCodec()
    assert message == codec.decode(codec.encode(message, type(message)), type(message))


@given(message=any_message)
def test_encoding_is_that_of_betterproto2(message: betterproto2.Message) -> None:
    """The bytes are identical; our encoder is only faster."""
    assert bytes(message) == encode(message)


@given(message=any_message)
def test_messages_of_protobuf_are_decoded(
    google: dict[str, type[GoogleMessage]], message: betterproto2.Message
) -> None:
    """Protobuf's encoding of the same values is accepted, with the same values."""
    theirs = google[type(message).__name__]()
    theirs.ParseFromString(bytes(message))
    assert message == decode(theirs.SerializeToString(), type(message))


@settings(deadline=None)  # as many decodings as a message has bytes
@given(message=any_message)
def test_every_truncation_is_rejected_or_decoded_as_by_protobuf(
    google: dict[str, type[GoogleMessage]], message: betterproto2.Message
) -> None:
    """A truncated message is not accepted as another one."""
    data = bytes(message)
    for end in range(len(data)):
        check_against_protobuf(google, type(message), data[:end])


@given(message_type=any_type, data=st.binary(max_size=40))
def test_random_bytes_are_rejected_or_decoded_as_by_protobuf(
    google: dict[str, type[GoogleMessage]], message_type: type[betterproto2.Message], data: bytes
) -> None:
    """The result is never one that protobuf would not return."""
    check_against_protobuf(google, message_type, data)


@given(message=any_message, position=st.integers(0, 200), byte=st.integers(0, 255))
def test_damaged_messages_are_rejected_or_decoded_as_by_protobuf(
    google: dict[str, type[GoogleMessage]], message: betterproto2.Message, position: int, byte: int
) -> None:
    """One wrong byte is detected, or protobuf decodes it to the same message."""
    data = bytearray(bytes(message))
    if data:
        data[position % len(data)] = byte
    check_against_protobuf(google, type(message), bytes(data))


@given(message=any_message, other=any_type, unknown=st.integers(1000, (1 << 29) - 1), value=st.binary())
def test_unknown_fields_are_allowed(
    message: betterproto2.Message, other: type[betterproto2.Message], unknown: int, value: bytes
) -> None:
    """Unknown fields of a newer client change nothing."""
    tag = betterproto2.encode_varint(unknown << 3 | 2)
    extra = tag + betterproto2.encode_varint(len(value)) + value
    assert message == decode(extra + bytes(message) + extra, type(message))
    assert other() == decode(extra, other)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x7fls", "cut short"),
        (b"\xff\xff", "cut short"),
        (b"\x0a", "cut short"),
        (b"\x08\x01", "StartRequest.name is a varint, must be length-delimited"),
        (b"\x0d\0\0\0\0", "StartRequest.name is 4 bytes"),
        (b"\x0b\x0c", "a group"),
        (b"\xa3\x06\xa4\x06", "wire type 3"),
        (b"\x0e", "a group"),
        (b"\0\0", "field number 0"),
        (b"\x0a\x02\xff\xfe", "StartRequest.name: is not valid UTF-8"),
        (b"\x0a\x03\xed\xa0\x80", "not valid UTF-8"),
        (b"\x42\x01x", "StartRequest.timeout_ms is length-delimited, must be a varint"),
        (b"\x40" + b"\xff" * 10 + b"\x01", "longer than 64 bits"),
        (b"\x40" + b"\xff" * 9 + b"\x02", "longer than 64 bits"),
        (b"\x58\x80\x80\x80\x80\x10", "does not fit 32 bits"),
        (b"\x8a\x80\x80\x80\x80\x00\x01x", "longer than 32 bits"),
        (b"\x0a\x81\x80\x80\x80\x80\x00x", "longer than 32 bits"),
        (b"\x32\x02\x10\x80", "StartRequest.limits: Limits.cpu_weight: the message is cut short"),
        (b"\x32\x06\x10\x80\x80\x80\x80\x10", "does not fit 32 bits"),
        (b"\x32\x00\x32\x00", "limits is given twice"),
        (b"\x3a\x03\x0a\x01\xff", "StartRequest.labels: Entry.key: is not valid UTF-8"),
        (b"\x3a\x02\x18\x01", "Entry has an unknown field 3"),
        (b"\xa5\x06\0\0", "cut short"),
        (b"\xa1\x06\0\0", "cut short"),
    ],
)
def test_each_way_of_being_malformed_is_named(data: bytes, reason: str) -> None:
    """The error names the field and the fault."""
    with pytest.raises(MalformedMessage) as caught:
        decode(data, proto.StartRequest)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"\x12\x00" * 100, 100),
        (b"\x98\x06\x01" * 100, 100),
        (b"\x3a\x00" * 100, 1700),
        (b"\x3a\x02\x0a\x00" * 100, 1800),
        (b"\x32\x7e" + b"\x42\x00" * 63, 33 + 63 * 33),
        (b"\x32\x7c" + b"\x42\x02\x10\x01" * 31, 33 + 31 * 34),
    ],
    ids=["texts", "unknown", "empty entries", "entries", "empty messages", "messages"],
)
def test_fields_are_counted_over_the_whole_message(data: bytes, fields: int) -> None:
    """Those inside messages count too, and a message or an entry counts for what it costs, in any parts."""
    assert decode(data, proto.StartRequest, fields) == decode(data, proto.StartRequest)
    with pytest.raises(MalformedMessage, match=f"more than {fields - 1} fields"):
        decode(data, proto.StartRequest, fields - 1)
    for parts in (1, 7, 1000):
        decoder = Decoder(data, proto.StartRequest, fields)
        while not decoder.advance(parts):
            pass
        assert decode(data, proto.StartRequest) == decoder.message()


def test_unknown_numbers_of_enums_are_accepted() -> None:
    """This is the rule of proto3; api/translate.py rejects them."""
    assert 7 == decode(b"\x58\x07", proto.StartRequest).leftovers


def test_a_long_message_of_many_arguments() -> None:
    """A megabyte of arguments is normal."""
    message = proto.StartRequest(name="printf", args=["x" * 9] * 100_000)
    assert message == decode(bytes(message), proto.StartRequest)


def test_a_message_of_another_type_is_not_encoded() -> None:
    """A reply of the wrong type is a bug in a handler and raises TypeError."""
    with pytest.raises(TypeError, match="StopResponse is expected"):
        MessageCodec().encode(proto.StartResponse(), proto.StopResponse)


def test_protobuf_rejects_malformed_messages(google: dict[str, type[GoogleMessage]]) -> None:
    """The comparison would prove nothing if protobuf accepted everything."""
    with pytest.raises(DecodeError):
        google["StartRequest"]().ParseFromString(b"\x0a\x7fls")
