"""Requests of Attach that the server refuses: the status names the problem, and nothing is changed."""

import struct
from pathlib import Path

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from worker.api.grpc.requests import MAX_STREAMED_REQUEST
from worker.api.wire.encoding import encode
from worker.core.model.input import InputState
from worker.core.model.job import JobSpec
from worker.proto import worker as proto

from ..support.served import serving

ATTACH = "/worker.v1.WorkerService/Attach"
HEADER = struct.Struct(">BI")


def framed(request: proto.AttachRequest) -> bytes:
    """Return a request with the prefix of gRPC."""
    data = encode(request)
    return HEADER.pack(0, len(data)) + data


def opening(job: str, *channels: proto.Channel, writes: bool = True) -> bytes:
    """Return the first request."""
    output = [proto.AttachOutput(channel=channel) for channel in channels]
    return framed(proto.AttachRequest(open=proto.AttachOpen(job_id=job, input=writes, output=output)))


OPEN = object()
"""Stands for a valid first request, because only the test knows the job."""
RESIZE = framed(proto.AttachRequest(resize=proto.WindowSize(rows=1)))
TOO_LARGE = framed(proto.AttachRequest(resize=proto.WindowSize(rows=1 << 16)))
INPUT = framed(proto.AttachRequest(input=proto.AttachInput(data=b"x")))


@pytest.mark.parametrize(
    ("requests", "status", "message"),
    [
        ([], Status.INVALID_ARGUMENT, "the request message is missing"),
        ([b"\0\0"], Status.INVALID_ARGUMENT, "the request message is cut short"),
        ([INPUT], Status.INVALID_ARGUMENT, "the first request must be `open`"),
        ([HEADER.pack(0, 0)], Status.INVALID_ARGUMENT, "the first request must be `open`"),
        ([HEADER.pack(0, 2) + b"\xff\xff"], Status.INVALID_ARGUMENT, "malformed request: "),
        ([HEADER.pack(1, 2) + b"xx"], Status.UNIMPLEMENTED, "compressed messages are not supported"),
        ([HEADER.pack(0, 1 << 30)], Status.RESOURCE_EXHAUSTED, "the request has 1073741824 bytes; the max"),
        ([OPEN, OPEN], Status.INVALID_ARGUMENT, "`open` is only the first request"),
        ([OPEN, HEADER.pack(0, 0)], Status.UNIMPLEMENTED, "this kind of request is not known"),
        ([OPEN, HEADER.pack(0, 3) + b"\x22\x01x"], Status.UNIMPLEMENTED, "this kind of request is not kno"),
        ([OPEN, RESIZE], Status.FAILED_PRECONDITION, "job "),
        ([OPEN, TOO_LARGE], Status.INVALID_ARGUMENT, "terminal: 65536 rows; must be 0 to 65535"),
        ([OPEN, HEADER.pack(0, 2) + b"\xff\xff"], Status.INVALID_ARGUMENT, "malformed request: "),
        (
            [OPEN, HEADER.pack(0, 4) + b"\x0a\0\x12\0"],
            Status.INVALID_ARGUMENT,
            "malformed request: open and",
        ),
        ([OPEN, HEADER.pack(1, 2) + b"xx"], Status.UNIMPLEMENTED, "compressed messages are not supported"),
        ([OPEN, b"\0\0\0\0\x05x"], Status.INVALID_ARGUMENT, "the request message is cut short"),
        (
            [OPEN, HEADER.pack(0, MAX_STREAMED_REQUEST + 1)],
            Status.RESOURCE_EXHAUSTED,
            f"the request has {MAX_STREAMED_REQUEST + 1} bytes; the maximum is {MAX_STREAMED_REQUEST}",
        ),
    ],
)
async def test_refused_requests(
    pki: Path, requests: list[bytes | object], status: Status, message: str
) -> None:
    """Garbage, requests in the wrong order, and requests that are too long."""
    async with serving(pki) as served, served.channel() as channel:
        job = await served.worker.start(JobSpec("cat", stdin=True))
        data = b"".join(each if isinstance(each, bytes) else opening(str(job)) for each in requests)
        call = channel.request(ATTACH, Cardinality.STREAM_STREAM, proto.AttachRequest, proto.AttachResponse)
        with pytest.raises(GRPCError) as caught:  # noqa: PT012
            async with call as stream:
                await stream.send_request()
                await stream._stream.send_data(data, end_stream=True)
                stream._end_done = True
                while await stream.recv_message() is not None:
                    pass
        assert status is caught.value.status
        assert (caught.value.message or "").startswith(message)
        async with served.worker.attach_input(job) as writer:
            assert InputState() == await writer.state()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([proto.AttachOutput(), proto.AttachOutput(offset=1)], "output: a channel is given twice"),
        ([proto.AttachOutput(channel=proto.Channel(7))], "channel: unknown value 7"),
        ([proto.AttachOutput(channel=proto.Channel.STDERR)], "channel: the job was not started with"),
        (
            [proto.AttachOutput(offset=1, tail_bytes=0)],
            "offset and tail_bytes: a stream can start at",
        ),
        ([proto.AttachOutput(offset=1 << 63)], "offset: 9223372036854775808 is greater than any"),
    ],
)
async def test_refused_openings(pki: Path, output: list[proto.AttachOutput], message: str) -> None:
    """Output that is ambiguous, unknown or not recorded."""
    async with serving(pki) as served, served.channel() as channel:
        job = str(await served.worker.start(JobSpec("cat", stdin=True)))
        request = proto.AttachOpen(job_id=job, input=True, output=output)
        call = channel.request(ATTACH, Cardinality.STREAM_STREAM, proto.AttachRequest, proto.AttachResponse)
        with pytest.raises(GRPCError) as caught:  # noqa: PT012
            async with call as stream:
                await stream.send_message(proto.AttachRequest(open=request), end=True)
                while await stream.recv_message() is not None:
                    pass
        assert Status.INVALID_ARGUMENT is caught.value.status
        assert (caught.value.message or "").startswith(message)


async def test_a_watcher_must_not_write(pki: Path) -> None:
    """Input in a call that was opened without it is an error, and does not reach the job."""
    async with serving(pki) as served, served.channel() as channel:
        job = await served.worker.start(JobSpec("cat", stdin=True))
        call = channel.request(ATTACH, Cardinality.STREAM_STREAM, proto.AttachRequest, proto.AttachResponse)
        with pytest.raises(GRPCError, match="the call was opened without `input`"):  # noqa: PT012
            async with call as stream:
                await stream.send_request()
                await stream._stream.send_data(
                    opening(str(job), proto.Channel.OUTPUT, writes=False) + INPUT
                )
                while await stream.recv_message() is not None:
                    pass
        async with served.worker.attach_input(job) as writer:
            assert InputState() == await writer.state()
