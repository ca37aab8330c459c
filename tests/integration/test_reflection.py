"""Server reflection with stock clients: they need no .proto file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from worker.api.methods import SERVICES

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.stock import PATIENCE


@pytest.fixture(scope="module")
def reflecting(tmp_path_factory: pytest.TempPathFactory, module_install: Install) -> Installation:
    """A running worker with reflection."""
    installation = module_install(tmp_path_factory.mktemp("reflecting") / "home")
    installation.worker("up", "--reflection", "yes")
    return installation


@pytest.fixture
def channel(reflecting: Installation) -> Iterator[grpc.Channel]:
    """The channel of a client with all rights."""
    with channel_to(reflecting) as channel:
        yield channel


def channel_to(installation: Installation) -> grpc.Channel:
    """Return the channel of a stock client, with the writer's certificate."""
    pki = installation.home / "pki"
    files = (pki / name for name in ("ca.crt", "writer.key", "writer.crt"))
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    return grpc.secure_channel((installation.home / "address").read_text().strip(), credentials)


def call(channel: grpc.Channel, pool: descriptor_pool.DescriptorPool, path: str, **fields: object) -> Any:
    """Make a unary call with nothing but what the pool knows of its types, as grpcurl does."""
    service, _, name = path.partition("/")
    method = pool.FindServiceByName(service).methods_by_name[name]
    request = message_factory.GetMessageClass(method.input_type)
    reply = message_factory.GetMessageClass(method.output_type)
    stub = channel.unary_unary(
        f"/{path}", request_serializer=request.SerializeToString, response_deserializer=reply.FromString
    )
    return stub(request(**fields), timeout=PATIENCE)


def test_a_client_lists_the_services(channel: grpc.Channel) -> None:
    """These are all services of the server."""
    assert sorted(SERVICES) == sorted(ProtoReflectionDescriptorDatabase(channel).get_services())


@pytest.mark.parametrize("service", ["worker.v1.WorkerService", "WorkerService"])
def test_a_client_starts_and_queries_a_job(channel: grpc.Channel, service: str) -> None:
    """The descriptors suffice to make calls, of the original API too."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    job = call(channel, pool, f"{service}/Start", name="sleep", args=["1000"]).jobID
    assert call(channel, pool, f"{service}/Query", jobID=job).pid > 0
    call(channel, pool, f"{service}/Stop", jobID=job)
    assert call(channel, pool, f"{service}/Query", jobID=job).exited


def test_a_client_of_the_newer_version(channel: grpc.Channel) -> None:
    """Version v1 has the messages of v1alpha."""
    stub = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    symbols = [f"grpc.health.v1.Health{end}" for end in ("", ".Check", ".Nothing")]
    requests = iter([ServerReflectionRequest(file_containing_symbol=each) for each in symbols])
    service, method, nothing = stub(requests, timeout=PATIENCE)
    assert 1 == len(service.file_descriptor_response.file_descriptor_proto)
    assert service.file_descriptor_response == method.file_descriptor_response
    assert grpc.StatusCode.NOT_FOUND.value[0] == nothing.error_response.error_code


def test_a_server_without_the_setting(shared: Installation) -> None:
    """The client learns that the server has no reflection, and which setting turns it on."""
    with channel_to(shared) as channel, pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()
    assert "setting reflection" in str(caught.value.details())


def test_a_server_without_the_extra(tmp_path: Path, install: Install) -> None:
    """It does not start, and says what to install."""
    installation = install(tmp_path / "home")
    hidden = tmp_path / "hidden" / "google"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()  # a package google without protobuf
    installation.env["PYTHONPATH"] = str(hidden.parent)
    done = installation.run("up", "--reflection", "yes")
    assert 1 == done.returncode
    assert b"pip install 'systemd-wrapper[reflection]'" in done.stderr
