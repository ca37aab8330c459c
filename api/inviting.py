"""Waits for the joiner of an invitation. Each peer may be hostile, so everything is bounded.

A peer that says nothing, garbage, or too much cannot keep the right one out: each connection has little
time and memory, and when there are too many, the oldest of the address with the most connections ends.
"""

import asyncio
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from .authority import KeyType, for_server, load_authority, new_key
from .certificate_files import write_certificate, write_key
from .handshake_failure import handshake_failure
from .identity import peer_address
from .invitation import Invitation
from .invitation_messages import (
    CONFIRMATION,
    INVITER_NAME,
    LARGEST_REQUEST,
    Granted,
    MalformedMessage,
    encode_offer,
    encode_reply,
    framed,
    parse_request,
    read_message,
    secured,
)

PATIENCE = 10.0
"""Seconds that a connection may take in all."""

MOST_CONNECTIONS = 32

_MOST_REPORTS = 20
"""Any peer can cause a report."""


class InvitationEnded(Exception):
    """The invitation has ended without a joiner."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Who has got the certificate, and whether it was stored there."""

    address: str
    certificate: Path
    confirmed: bool


class Inviter:
    """Listens for the joiner of one invitation; ``report`` is called with what went wrong with a peer.

    ``patience`` is in seconds.
    """

    def __init__(
        self,
        invitation: Invitation,
        *,
        report: Callable[[str], None],
        patience: float = PATIENCE,
        most_connections: int = MOST_CONNECTIONS,
    ) -> None:
        self._invitation = invitation
        self._report = report
        self._reports = 0
        self._patience = patience
        self._most_connections = most_connections
        self._context = _throw_away_context(invitation.directory)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._evictable: dict[asyncio.Task[None], str] = {}  # with the host of the peer, oldest first
        self._outcome: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()

    async def listen(self, host: str, port: int) -> int:
        """Begin to listen at the first address of the host, and return the port; raise OSError."""
        loop = asyncio.get_running_loop()
        family, _, _, _, address = (
            await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        )[0]
        listener = socket.create_server(address, family=family)
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=LARGEST_REQUEST)
        return int(listener.getsockname()[1])

    async def joined(
        self, ttl: float, sleep: Callable[[float], Coroutine[object, object, None]] = asyncio.sleep
    ) -> Joined:
        """Return when a peer has joined; raise InvitationEnded if none can join any more.

        ``ttl`` is the validity of the invitation in seconds.
        """
        expiry = asyncio.create_task(self._expire(sleep(ttl)))
        try:
            return await self._outcome
        finally:
            expiry.cancel()

    async def _expire(self, end: Coroutine[object, object, None]) -> None:
        await end
        # With a certificate, its connection decides, which has not much time left.
        if not self._outcome.done() and self._invitation.certificate is None:
            self._outcome.set_exception(InvitationEnded("nobody has joined in time"))

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)
        if self._server is not None:
            await self._server.wait_closed()
        self._outcome.cancel()

    # Connections end by cancellation: after an abort, start_tls would return a writer without a transport.
    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._make_room()
        address = peer_address(writer.get_extra_info("peername"))
        self._tasks.add(task)
        self._evictable[task] = address.rpartition(":")[0]
        try:
            async with asyncio.timeout(self._patience):
                await self._converse(writer, address, task)
        except asyncio.CancelledError:
            pass  # it ends here: there are too many connections, or the inviter has ended
        except TimeoutError:
            self._tell(f"{address}: it took too long")
        except asyncio.IncompleteReadError:
            self._tell(f"{address}: it has closed the connection")
        except MalformedMessage as error:
            self._tell(f"{address}: {error}")
        except OSError as error:  # also of TLS
            self._tell(f"{address}: {handshake_failure(error)}")
        finally:
            self._tasks.discard(task)
            self._evictable.pop(task, None)
            writer.transport.abort()

    async def _converse(
        self, plain: asyncio.StreamWriter, address: str, task: "asyncio.Task[None]"
    ) -> None:
        plain.write(framed(encode_offer(self._invitation.offer)))
        async with secured(plain, self._context, largest=LARGEST_REQUEST) as (reader, writer):
            request = parse_request(await read_message(reader, LARGEST_REQUEST))
            reply = self._invitation.answer(request)
            confirmed = False
            try:
                writer.write(framed(encode_reply(reply)))
                if isinstance(reply, Granted):
                    self._evictable.pop(task, None)
                    confirmed = await read_message(reader, len(CONFIRMATION)) == CONFIRMATION
                else:
                    self._tell(f"{address}: refused: {reply.reason}")
                    writer.close()  # sends the reply
                    await writer.wait_closed()
            finally:
                self._decide(reply, address, confirmed=confirmed)

    def _decide(self, reply: object, address: str, *, confirmed: bool) -> None:
        if self._outcome.done():
            return
        if isinstance(reply, Granted):
            assert self._invitation.certificate is not None
            self._outcome.set_result(Joined(address, self._invitation.certificate, confirmed))
        elif self._invitation.is_over:
            self._outcome.set_exception(InvitationEnded("there were too many wrong tokens"))

    def _make_room(self) -> None:
        if len(self._evictable) < self._most_connections:
            return
        [(most, _)] = Counter(self._evictable.values()).most_common(1)
        oldest = next(task for task, host in self._evictable.items() if host == most)
        del self._evictable[oldest]
        oldest.cancel()

    def _tell(self, text: str) -> None:
        self._reports += 1
        if self._reports <= _MOST_REPORTS:
            self._report(text)
        elif self._reports == _MOST_REPORTS + 1:
            self._report("others failed too; this is not reported any more")


def _throw_away_context(directory: Path) -> ssl.SSLContext:
    """Return the TLS of the inviter: its key exists only for this invitation."""
    key = new_key(KeyType.P256)
    names = x509.SubjectAlternativeName([x509.DNSName(INVITER_NAME)])
    certificate = load_authority(directory).sign(
        "invitation", key.public_key(), [for_server(), names], days=1
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    with tempfile.TemporaryDirectory(prefix="worker-") as place:  # ssl reads keys only from files
        paths = Path(place, "crt"), Path(place, "key")
        write_certificate(paths[0], certificate)
        write_key(paths[1], key)
        context.load_cert_chain(*paths)
    return context
