"""Attach with a stock gRPC client, which knows only proto/worker.proto."""

import importlib.util
import itertools
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import worker.proto

grpc = pytest.importorskip("grpc", reason="the guest has no grpcio")
protoc = pytest.importorskip("grpc_tools.protoc", reason="the guest has no grpcio-tools")

PIECE = bytes(range(256)) * 250


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The messages that grpcio generates from worker.proto."""
    out = tmp_path_factory.mktemp("stubs")
    source = Path(worker.proto.__file__).parent
    # A file of another name: protobuf has one pool of descriptors for each process.
    (out / "attach_client.proto").write_text(
        (source / "worker.proto").read_text().replace("package worker.v1;", "package stock.v1;")
    )
    assert 0 == protoc.main(["protoc", f"-I{out}", f"--python_out={out}", "attach_client.proto"])
    spec = importlib.util.spec_from_file_location("attach_client_pb2", out / "attach_client_pb2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def attach(shared: Any) -> Iterator[Any]:
    """The method, as a generated stub calls it."""
    pki = shared.home / "pki"
    credentials = grpc.ssl_channel_credentials(
        *((pki / name).read_bytes() for name in ("ca.crt", "writer.key", "writer.crt"))
    )
    target = (shared.home / "address").read_text().strip()
    with grpc.secure_channel(target, credentials) as channel:
        yield lambda messages: channel.stream_stream(
            "/worker.v1.WorkerService/Attach",
            request_serializer=messages.AttachRequest.SerializeToString,
            response_deserializer=messages.AttachResponse.FromString,
        )


def opening(messages: ModuleType, job: str, *, output: bool) -> Any:
    """Return the first request."""
    channels = [messages.AttachOutput()] if output else []
    return messages.AttachRequest(
        open=messages.AttachOpen(jobID=job, input=True, session="mine", output=channels)
    )


def test_input_and_output(shared: Any, messages: ModuleType, attach: Any) -> None:
    """A client writes after the server has accepted the call, and gets output, progress and the end."""
    job = shared.start("-i", "cat")
    requests: queue.Queue[Any] = queue.Queue()
    requests.put(opening(messages, job, output=True))
    responses = attach(messages)(iter(requests.get, None))
    first = next(responses)
    assert ("opened", 0) == (first.WhichOneof("response"), first.opened.input.accepted)
    requests.put(messages.AttachRequest(input=messages.AttachInput(data=b"\0one", end=True)))
    rest = list(responses)
    requests.put(None)
    assert b"\0one" == b"".join(each.output.data for each in rest)
    last = [each.input for each in rest if each.WhichOneof("response") == "input"][-1]
    assert (4, True) == (last.accepted, last.ended)
    assert grpc.StatusCode.OK is responses.code()


def test_a_client_without_regard_to_progress(shared: Any, messages: ModuleType, attach: Any) -> None:
    """HTTP/2 alone slows it down to the speed of the job, and all bytes arrive."""
    job = shared.start("-i", "sh", "-c", "sleep 1; wc -c")

    def requests() -> Iterator[Any]:
        yield opening(messages, job, output=False)
        for number in range(200):
            data = messages.AttachInput(offset=number * len(PIECE), data=PIECE)
            yield messages.AttachRequest(input=data)
        yield messages.AttachRequest(input=messages.AttachInput(offset=200 * len(PIECE), end=True))

    list(attach(messages)(requests()))
    assert f"{200 * len(PIECE)}\n".encode() == shared.stream(job)


def test_a_refused_call(shared: Any, messages: ModuleType, attach: Any) -> None:
    """The status and its message name the reason."""
    job = shared.start("sleep", "1000")
    for request, code in (
        (opening(messages, job, output=True), grpc.StatusCode.FAILED_PRECONDITION),
        (messages.AttachRequest(), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(attach(messages)(itertools.chain([request])))
        assert code is caught.value.code()
        assert caught.value.details()
    shared.worker("stop", job)
