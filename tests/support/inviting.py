"""An inviter on loopback, and peers of it: right ones, and any others."""

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from worker.api.authority import KeyType, new_key
from worker.api.certificates import signing_request
from worker.api.credentials import Credentials
from worker.api.invitation import Invitation, Invited, invitation
from worker.api.invitation_messages import (
    INVITER_NAME,
    LARGEST_REPLY,
    Granted,
    JoinRequest,
    Refused,
    encode_request,
    framed,
    parse_offer,
    parse_reply,
    read_message,
)
from worker.api.inviting import Inviter, Joined
from worker.api.roles import Role
from worker.client.joining import joining
from worker.core.testing import ManualClock

TTL = 900.0

SERVERS = ("192.0.2.7:7443",)


@dataclass
class Inviting:
    """A running inviter; ``outcome`` ends when the invitation does, ``reports`` is what it has reported."""

    invitation: Invitation
    inviter: Inviter
    port: int
    outcome: "asyncio.Task[Joined]"
    clock: ManualClock
    reports: list[str] = field(default_factory=list)

    @property
    def issued(self) -> list[Path]:
        """All certificates for the invited name."""
        return list(self.invitation.directory.glob("alice*"))

    async def join(self) -> Credentials:
        """Join as the command does."""
        async with joining("127.0.0.1", self.port, self.invitation.token) as credentials:
            return credentials

    def socket(self, source: str) -> socket.socket:
        """Open a connection that says nothing."""
        connection = socket.create_connection(("127.0.0.1", self.port), source_address=(source, 0))
        connection.setblocking(False)
        return connection

    async def connect(self, source: str = "127.0.0.1") -> "Peer":
        """Open a connection from an address of this machine, and read the offer."""
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0)))
        peer.authority = parse_offer(await read_message(peer.reader, LARGEST_REPLY)).authority
        return peer


@dataclass
class Peer:
    """One connection to an inviter."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    authority: bytes = b""

    async def secure(self) -> "Peer":
        """Begin TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority)
        await self.writer.start_tls(context, server_hostname=INVITER_NAME)
        return self

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def ask(self, secret: bytes, request: bytes | None = None) -> Granted | Refused:
        """Send a request, by default one that can be signed, and return the reply."""
        request = signing_request("joiner", new_key(KeyType.P256)) if request is None else request
        self.send(framed(encode_request(JoinRequest(secret, request))))
        return parse_reply(await read_message(self.reader, LARGEST_REPLY))

    async def ended(self) -> bool:
        """Wait until the inviter has ended the connection; whether it sent nothing more."""
        try:
            return b"" == await self.reader.read()
        except OSError:
            return True
        finally:
            self.close()

    def close(self) -> None:
        """End the connection at once."""
        self.writer.transport.abort()


@asynccontextmanager
async def inviting(
    directory: Path, *, patience: float = 60.0, most_connections: int = 32
) -> AsyncIterator[Inviting]:
    """Yield an inviter of alice, a reader, by the CA in this directory."""
    clock = ManualClock()
    reports: list[str] = []
    offered = invitation(directory, Invited("alice", [Role.READER], SERVERS, days=7))
    inviter = Inviter(offered, report=reports.append, patience=patience, most_connections=most_connections)
    try:
        port = await inviter.listen("127.0.0.1", 0)
        outcome = asyncio.create_task(inviter.joined(TTL, clock.sleep))
        yield Inviting(offered, inviter, port, outcome, clock, reports)
    finally:
        await inviter.close()
        await asyncio.gather(outcome, return_exceptions=True)


def own_copy(pki: Path, directory: Path) -> Path:
    """Return a copy of certificates and their CA, for a test that adds to them."""
    shutil.copytree(pki.parent / "ca", directory / "ca")
    shutil.copytree(pki, directory / "pki")
    return directory / "pki"
