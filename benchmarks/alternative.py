"""The servers that the worker is compared with. Each runs in a separate process.

Run as ``python alternative.py KIND PKI [FILE]``; prints the address of the server.
``aio``: grpc.aio and Google's protobuf; streams FILE in chunks of the worker's size.
``noop``: grpclib with a method that returns an empty message, with the worker's certificates.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 65520


@contextmanager
def alternative(kind: str, pki: Path, *file: Path) -> Iterator[tuple[str, int]]:
    """Run such a server; yields its address and its pid."""
    command = [sys.executable, __file__, kind, pki, *file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


async def serve_aio(pki: Path, file: Path) -> None:
    """Serve a file over grpc.aio, in messages with the same fields as the worker's."""
    import grpc  # noqa: PLC0415 - the other kind of server does not need it
    from google.protobuf import wrappers_pb2  # noqa: PLC0415

    key, certificate, ca = ((pki / name).read_bytes() for name in ("server.key", "server.crt", "ca.crt"))

    async def stream(_request: bytes, _context: object) -> AsyncIterator[wrappers_pb2.BytesValue]:
        with file.open("rb", buffering=0) as source:
            offset = 0
            while data := os.pread(source.fileno(), CHUNK, offset):
                offset += len(data)
                yield wrappers_pb2.BytesValue(value=data)  # field 1, as in the worker's message

    handler = grpc.unary_stream_rpc_method_handler(
        stream, response_serializer=wrappers_pb2.BytesValue.SerializeToString
    )
    server = grpc.aio.server()
    server.add_registered_method_handlers("Alternative", {"Stream": handler})
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("Alternative", {"Stream": handler}),)
    )
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def serve_noop(pki: Path) -> None:
    """Serve a method that does nothing over unmodified grpclib."""
    from grpclib.const import Cardinality, Handler  # noqa: PLC0415
    from grpclib.server import Server, Stream  # noqa: PLC0415

    from worker.api.grpc.codec import MessageCodec  # noqa: PLC0415
    from worker.api.tls import pem_certificates, server_context  # noqa: PLC0415
    from worker.proto.worker import StopResponse  # noqa: PLC0415

    class Service:
        def __mapping__(self) -> dict[str, Handler]:
            return {"/Alternative/Noop": Handler(noop, Cardinality.UNARY_UNARY, StopResponse, StopResponse)}

    async def noop(stream: Stream[StopResponse, StopResponse]) -> None:
        assert await stream.recv_message() is not None
        await stream.send_message(StopResponse())

    server = Server([Service()], codec=MessageCodec())
    context = server_context(
        authorities=pem_certificates(pki / "ca.crt"), certificate=pki / "server.crt", key=pki / "server.key"
    )
    await server.start("127.0.0.1", 0, ssl=context)
    assert server._server is not None  # noqa: SLF001 - no public attribute has the port
    host, port = server._server.sockets[0].getsockname()[:2]  # type: ignore[attr-defined] # noqa: SLF001
    print(f"{host}:{port}", flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    kind, pki, *rest = sys.argv[1], *map(Path, sys.argv[2:])
    asyncio.run(serve_aio(pki, rest[0]) if kind == "aio" else serve_noop(pki))
