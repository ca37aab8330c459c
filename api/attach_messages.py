"""Translation between the messages of Attach and the core's values, in both directions."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.errors import InvalidJobSpec
from ..core.model.ending import Channel
from ..core.model.input import InputState
from ..core.model.job import Chunk
from ..core.model.stream_start import StreamStart
from ..core.model.terminal import WindowSize
from ..proto import worker as proto
from . import translate


@dataclass(frozen=True, slots=True)
class ChannelChunk:
    """Some output of a job, and the channel as it was requested."""

    channel: Channel
    chunk: Chunk


def open_request(
    job: str, session: str | None, output: Mapping[Channel, StreamStart], *, resume: bool
) -> proto.AttachRequest:
    """Return the first request of a call; ``session`` is None for a call that does not write."""
    opening = proto.AttachOpen(job_id=job, input=session is not None, session=session or "", resume=resume)
    for channel, start in output.items():
        requested = proto.AttachOutput(channel=translate.channel_message(channel))
        translate.set_start(requested, start)
        opening.output.append(requested)
    return proto.AttachRequest(open=opening)


def input_request(offset: int, data: bytes, *, end: bool) -> proto.AttachRequest:
    """Return the request that writes these bytes."""
    return proto.AttachRequest(input=proto.AttachInput(offset=offset, data=data, end=end))


def resize_request(size: WindowSize) -> proto.AttachRequest:
    """Return the request that gives the terminal of the job this size."""
    return proto.AttachRequest(resize=translate.window_size_message(size))


def check_output(opening: proto.AttachOpen) -> None:
    """Raise InvalidJobSpec if the requested output is ambiguous."""
    channels = [each.channel for each in opening.output]
    if len(set(channels)) < len(channels):
        raise InvalidJobSpec("output", "a channel is given twice")


def input_message(state: InputState) -> proto.AttachInputState:
    """Return the state of a job's input as a message."""
    return proto.AttachInputState(accepted=state.accepted, ended=state.ended, closed=state.closed)


def input_state(message: proto.AttachInputState) -> InputState:
    """Return the state of a job's input in a server's response."""
    return InputState(message.accepted, message.ended, message.closed)


def chunk_response(channel: proto.Channel, chunk: Chunk) -> proto.AttachResponse:
    """Return the response with some output."""
    message = proto.AttachChunk(channel=channel, offset=chunk.offset, data=chunk.data)
    return proto.AttachResponse(output=message)


def channel_chunk(message: proto.AttachChunk) -> ChannelChunk:
    """Return the output in a server's response; raise InvalidJobSpec if its channel is unknown."""
    return ChannelChunk(translate.known_channel(message.channel), Chunk(message.offset, message.data))
