"""A stock client of the original API: grpcio, with stubs made from the original proto."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_tools import protoc

import worker.proto

NOWHERE = "b58476f2-9479-445b-898d-29eeaf905a47"
PATIENCE = 60.0


class Stock:
    """The stubs, the address of the server, and the certificates."""

    def __init__(self, target: str, pki: Path, messages: ModuleType, services: ModuleType) -> None:
        self.target = target
        self.pki = pki
        self.messages = messages
        self._services = services

    def credentials(self, name: str | None, pki: Path | None = None) -> grpc.ChannelCredentials:
        """Return the credentials of a client with this certificate, or without one."""
        pki = pki or self.pki
        return grpc.ssl_channel_credentials(
            (self.pki / "ca.crt").read_bytes(),
            (pki / f"{name}.key").read_bytes() if name else None,
            (pki / f"{name}.crt").read_bytes() if name else None,
        )

    def channel(self, name: str | None, pki: Path | None = None) -> grpc.Channel:
        """Return a channel, which is a context manager."""
        return grpc.secure_channel(self.target, self.credentials(name, pki))

    def stub(self, channel: grpc.Channel) -> Any:
        """Return the generated stub."""
        return self._services.WorkerServiceStub(channel)


@contextmanager
def stubs(out: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Yield the modules that grpcio generates from the original proto."""
    source = Path(worker.proto.__file__).parent
    command = ["protoc", f"-I{source}", f"--python_out={out}", f"--grpc_python_out={out}", "original.proto"]
    assert 0 == protoc.main(command)
    modules = []
    for name in ("original_pb2", "original_pb2_grpc"):
        spec = importlib.util.spec_from_file_location(name, out / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        modules.append(importlib.util.module_from_spec(spec))
        sys.modules[name] = modules[-1]
        spec.loader.exec_module(modules[-1])
    yield modules[0], modules[1]
    del sys.modules["original_pb2"], sys.modules["original_pb2_grpc"]


def error_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the status of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    details = caught.value.details()
    assert details
    assert "Traceback" not in details
    return caught.value.code(), details
