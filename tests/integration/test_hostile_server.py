"""A server that attacks its clients: their calls end with an error, and their memory is bounded."""

import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hpack import Encoder

from ..support.attacker import CONTINUATION, DATA, END_HEADERS, HEADERS, PING, SETTINGS, frame
from ..support.served import server_tls
from ..support.stock import NOWHERE

MOST = 4 << 20
"""Bytes that the server sends if the client lets it."""

ALLOWED = 200 << 10
"""KiB of memory that a client may use; it needs a quarter of that without an attack."""

ANSWER = frame(
    HEADERS,
    END_HEADERS,
    1,
    Encoder().encode([(":status", "200"), ("content-type", "application/grpc+proto")]),
)
PUSH = frame(0x5, END_HEADERS, 1, b"\0\0\0\2" + Encoder().encode([(":method", "GET"), (":path", "/")]))

ATTACKS: dict[str, Callable[[int], bytes]] = {
    "a message of 4 GiB": lambda number: frame(
        DATA, 0, 1, (struct.pack(">BI", 0, 0xFFFFFFFF) if not number else b"") + bytes(16000)
    ),
    "a message in single bytes": lambda number: (
        frame(DATA, 0, 1, struct.pack(">BI", 0, 16 << 20)) if not number else frame(DATA, 0, 1, b"x") * 1000
    ),
    "two million empty jobs": lambda number: (
        frame(DATA, 0, 1, struct.pack(">BI", 0, 4 << 20))
        if not number
        else frame(DATA, 0, 1, b"\x0a\0" * 8000)
    ),
    "headers without end": lambda number: (
        frame(HEADERS, 0, 1, b"\0\1a\x7f\x80\x7f")
        if not number
        else frame(CONTINUATION, 0, 1, bytes(16000))
    ),
    "pushed calls": lambda _: PUSH * 100,
    "pings": lambda _: frame(PING, 0, 0, b"12345678") * 1000,
    "settings": lambda _: frame(SETTINGS, 0, 0) * 1000,
    "provisional headers": lambda _: (
        frame(HEADERS, END_HEADERS, 1, Encoder().encode([(":status", "103"), ("link", "x" * 1000)])) * 10
    ),
}


@contextmanager
def attacking_server(pki: Path, attack: Callable[[int], bytes]) -> Iterator[int]:
    """Serve the attack to every client, and yield the port."""
    context = server_tls(pki).context_for_next_connection()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
                    attack_client(client, attack)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def attack_client(client: ssl.SSLSocket, attack: Callable[[int], bytes]) -> None:
    """Send the attack once the client has made its call; stop when it has left, or has got enough."""
    client.settimeout(5)
    client.recv(65536)
    client.sendall(
        frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0) + (b"" if attack(0)[3] == HEADERS else ANSWER)
    )
    sent = number = 0
    while sent < MOST:
        piece = attack(number)
        client.sendall(piece)
        sent += len(piece)
        number += 1


CLIENT = """
import asyncio, sys
from pathlib import Path
from worker.client.client import Client
from worker.client.connection import Connection
from worker.client.errors import RpcError, ServerUnreachable
from worker.api.tls import client_context

async def call(port, pki, method, *arguments):
    context = client_context(ca=pki / "ca.crt", certificate=pki / "writer.crt", key=pki / "writer.key")
    async with Client(lambda: Connection("127.0.0.1", port, context), patience=0) as client:
        await getattr(client, method)(*arguments)

try:
    asyncio.run(call(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
except (RpcError, ServerUnreachable) as error:
    # Not that of getrusage(2), which begins with what the parent had at the fork.
    print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    sys.exit(str(error))
"""
"""What a command does, without repeating the call."""


@pytest.mark.parametrize("name", ATTACKS)
def test_the_memory_of_the_client_is_bounded(pki: Path, name: str) -> None:
    """Whatever the server sends, the call ends with an error, and the client uses little memory."""
    arguments = ["list"] if "jobs" in name else ["query", NOWHERE]
    with attacking_server(pki, ATTACKS[name]) as port:
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, str(port), str(pki), *arguments],
            capture_output=True,
            check=False,
        )
    assert client.returncode == 1, client.stderr
    assert b"Traceback" not in client.stderr
    assert int(client.stdout) <= ALLOWED, client.stderr
