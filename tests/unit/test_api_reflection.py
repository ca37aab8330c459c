"""Server reflection: what it knows, and that the rules of all other calls apply to it."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from worker.api.bounds import Bounds
from worker.api.grpc.channel import Channel
from worker.api.methods import METHODS, SERVICES
from worker.api.reflection import Reflection, ReflectionUnavailable
from worker.core.policy.in_force import PolicyInForce
from worker.proto.reflection import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from ..support.policies import read
from ..support.served import serving

PATHS = [path for path in METHODS if path.endswith("/ServerReflectionInfo")]
LIST = ServerReflectionRequest(list_services="")
UNKNOWN = 5
"""NOT_FOUND, as a number of gRPC."""

READS = """
[[rule]]
name = "all"
clients = ["writer"]
calls = ["read"]
"""


@asynccontextmanager
async def reflecting(
    pki: Path, name: str = "writer", bounds: Bounds | None = None
) -> AsyncIterator[Channel]:
    """Serve with reflection, and open the channel of a client."""
    async with (
        serving(pki, bounds=bounds, reflection=Reflection()) as served,
        served.channel(name) as channel,
    ):
        yield channel


@asynccontextmanager
async def asking(channel: Channel, path: str = PATHS[0]) -> AsyncIterator[Any]:
    """Open a call."""
    kinds = ServerReflectionRequest, ServerReflectionResponse
    async with channel.request(path, Cardinality.STREAM_STREAM, *kinds) as stream:
        yield stream


async def ask(stream: Any, request: ServerReflectionRequest, **options: Any) -> ServerReflectionResponse:
    """Send a request and return the answer to it."""
    await stream.send_message(request, **options)
    answer = await stream.recv_message()
    assert isinstance(answer, ServerReflectionResponse)
    return answer


async def refusal(channel: Channel, request: ServerReflectionRequest = LIST) -> GRPCError:
    """Return how a call is refused."""
    with pytest.raises(GRPCError) as caught:
        async with asking(channel) as stream:
            await ask(stream, request, end=True)
    return caught.value


async def ending(channel: Channel, what: Callable[[Any], Awaitable[object]]) -> GRPCError:
    """Return how a call ends that was answered once, when something happens."""

    async def call() -> None:
        async with asking(channel) as stream:
            assert (await ask(stream, LIST)).list_services_response
            await what(stream)
            await stream.recv_message()

    with pytest.raises(GRPCError) as caught:
        await call()
    return caught.value


def file_with(symbol: str) -> FileDescriptorProto:
    """Return the file that the reflection of a server names for a symbol."""
    answer = Reflection().answer(ServerReflectionRequest(file_containing_symbol=symbol))
    assert answer.file_descriptor_response is not None, answer
    (found,) = answer.file_descriptor_response.file_descriptor_proto
    return FileDescriptorProto.FromString(found)


def test_it_names_the_services_that_are_served() -> None:
    """The services are those of the table of methods, reflection itself among them."""
    assert sorted(SERVICES) == sorted(Reflection().services)
    answer = Reflection().answer(LIST)
    assert answer.list_services_response is not None
    assert sorted(SERVICES) == [each.name for each in answer.list_services_response.service]


@pytest.mark.parametrize("service", SERVICES)
def test_it_describes_every_method(service: str) -> None:
    """The file of a service has its methods; each method and type is found by its name."""
    file = file_with(service)
    (described,) = [each for each in file.service if service.endswith(each.name)]
    assert sorted(each.name for each in SERVICES[service]) == sorted(each.name for each in described.method)
    for each in file.enum_type:
        assert file == file_with(f"{file.package}.{each.value[0].name}")
    for method in described.method:
        for symbol in (f"{service}.{method.name}", method.input_type[1:], method.output_type[1:]):
            assert file == file_with(symbol)


def test_files_are_found_by_name_and_have_comments() -> None:
    """Every file can be asked for again by the name in its descriptor; grpcurl shows the comments."""
    file = file_with("worker.v1.WorkerService")
    answer = Reflection().answer(ServerReflectionRequest(file_by_filename=file.name))
    assert answer.file_descriptor_response is not None
    assert [file.SerializeToString()] == answer.file_descriptor_response.file_descriptor_proto
    assert any(
        "with the same request_id" in each.leading_comments for each in file.source_code_info.location
    )


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_containing_symbol="worker.v1.Nothing"),
        ServerReflectionRequest(file_by_filename="nothing.proto"),
        ServerReflectionRequest(all_extension_numbers_of_type="Nothing"),
        ServerReflectionRequest(file_containing_extension=ExtensionRequest("worker.v1.StopRequest", 1)),
    ],
    ids=lambda each: next(name for name, value in each.to_dict().items() if value),
)
async def test_what_does_not_exist_is_an_answer(pki: Path, request_: ServerReflectionRequest) -> None:
    """The call goes on, with the next request."""
    async with reflecting(pki) as channel, asking(channel) as stream:
        answer = await ask(stream, request_)
        assert answer.error_response is not None
        assert UNKNOWN == answer.error_response.error_code
        assert request_ == answer.original_request
        assert (await ask(stream, LIST, end=True)).list_services_response


@pytest.mark.parametrize("path", PATHS)
async def test_both_versions_are_served(pki: Path, path: str) -> None:
    """The versions v1 and v1alpha have the same answers, also to a reader, as often as it asks."""
    async with reflecting(pki, "reader") as channel, asking(channel, path) as stream:
        for _ in range(100):
            answer = await ask(stream, LIST)
            assert answer.list_services_response is not None
        known = ServerReflectionRequest(all_extension_numbers_of_type="worker.v1.StopRequest")
        answer = await ask(stream, known, end=True)
        assert answer.all_extension_numbers_response is not None
        assert None is await stream.recv_message()


async def test_it_is_off_by_default(pki: Path) -> None:
    """The error names the setting; its status tells grpcurl that it needs a .proto file."""
    async with serving(pki) as served, served.channel() as channel:
        refused = await refusal(channel)
        assert Status.UNIMPLEMENTED is refused.status
        assert "setting reflection" in str(refused.message)


def test_without_the_extra_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without protobuf says what is missing."""
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(ReflectionUnavailable, match="protobuf is not installed"):
        Reflection()


async def test_a_policy_decides(pki: Path) -> None:
    """It needs the group `read`, and ends when a new policy takes that away."""
    policy = PolicyInForce(read(READS))
    async with serving(pki, reflection=Reflection(), policy=policy) as served:

        async def replace_policy(_stream: object) -> None:
            policy.policy = read("")
            served.server.policy_replaced()

        async with served.channel() as channel:
            assert Status.PERMISSION_DENIED is (await ending(channel, replace_policy)).status
            assert Status.PERMISSION_DENIED is (await refusal(channel)).status


@pytest.mark.parametrize(
    ("bounds", "setting"),
    [
        (Bounds(max_streams_per_client=1), "max_streams_per_client"),
        (Bounds(max_request_size=10), "max_request_size"),
        (Bounds(max_reply_memory_per_client=10), "max_reply_memory_per_client"),
    ],
    ids=["streams", "request", "reply"],
)
async def test_the_bounds_apply(pki: Path, bounds: Bounds, setting: str) -> None:
    """An open call is a stream; a request and an answer may not be too large, the first or a later one."""
    long = ServerReflectionRequest(file_containing_symbol="worker.v1.StopRequest")
    short = ServerReflectionRequest(host="a")
    async with reflecting(pki, bounds=bounds) as channel:
        if setting == "max_streams_per_client":
            async with asking(channel) as stream:
                assert (await ask(stream, short)).error_response
                refused = await refusal(channel)
                await stream.end()
        else:
            refused = await refusal(channel, long)
        assert Status.RESOURCE_EXHAUSTED is refused.status
        assert f"(setting {setting}" in str(refused.message)


async def test_a_later_request_is_bounded_too(pki: Path) -> None:
    """The maximum is that of every request of a call."""
    long = ServerReflectionRequest(file_by_filename="x" * 50)
    async with reflecting(pki, bounds=Bounds(max_request_size=50)) as channel:
        ended = await ending(channel, lambda each: each.send_message(long, end=True))
        assert Status.RESOURCE_EXHAUSTED is ended.status


async def test_a_shutdown_ends_an_open_call(pki: Path) -> None:
    """A client that keeps the call open does not hold up the server."""
    async with serving(pki, reflection=Reflection()) as served, served.channel() as channel:
        shut_down = served.server.shut_down
        ended = await ending(channel, lambda _: shut_down(60))
        assert Status.UNAVAILABLE is ended.status
