"""The codec that grpclib encodes and decodes messages with."""

from typing import TypeVar

from betterproto2 import Message
from grpclib.encoding.base import CodecBase

from ..wire.decoding import decode
from ..wire.encoding import encode

_Message = TypeVar("_Message", bound=Message)


class MessageCodec(CodecBase):
    """Encodes messages, and decodes them with checks."""

    __content_subtype__ = "proto"

    def encode(self, message: Message, message_type: type[Message]) -> bytes:
        """Return the bytes of a message."""
        if not isinstance(message, message_type):
            raise TypeError(f"{message_type.__name__} is expected, not {type(message).__name__}")
        return encode(message)

    def decode(self, data: bytes, message_type: type[_Message]) -> _Message:
        """Return the message in these bytes; raise MalformedMessage if they are not one."""
        return decode(data, message_type)
