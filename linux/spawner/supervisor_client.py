"""The server's connection to one supervisor, and the start of a supervisor."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import SpawnerUnavailable
from ..ipc.framing import (
    OLDEST_PROTOCOL,
    PROTOCOL,
    Decoder,
    Message,
    encode,
)
from ..ipc.unix_sockets import connect, peer_process
from ..state.layout import Layout
from .systemd_scope import environment, supervisor_scope

log = logging.getLogger(__name__)

_AT_ONCE = 200
"""Descriptors in one message; the kernel accepts 253 (SCM_MAX_FD)."""

_CLOSE_PATIENCE = 2.0
"""Seconds that a supervisor has to receive unsent bytes when we disconnect."""

_ROOM = 65536
"""Bytes received at once."""


class SupervisorGone(Exception):
    """The supervisor has died, or was never reached; whether it served the request is unknown."""


class SupervisorClient(asyncio.BufferedProtocol):
    """One connection. ``on_event`` receives events of jobs; ``on_lost`` is called when it is lost.

    ``supervisor`` is its pid and ``protocol`` the version that it speaks, once it is connected.
    """

    def __init__(
        self, directory: Path, on_event: Callable[[Message], None], on_lost: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._on_event = on_event
        self._on_lost = on_lost
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_call = 0
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = memoryview(bytearray(_ROOM))
        self._decoder = Decoder()
        self.supervisor = 0
        self.protocol = 0

    async def connect(self) -> bool:
        """Connect to the supervisor of this generation; return False if there is none."""
        try:
            connection = connect(self._directory, "socket")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        self.supervisor = peer_process(connection)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=connection)
        self.protocol = _checked_protocol(
            await self.call("hello", protocol=PROTOCOL, oldest=OLDEST_PROTOCOL)
        )
        return True

    async def call(self, do: str, **arguments: object) -> dict[str, Any]:
        """Send a request and return the answer; SupervisorGone if none comes."""
        if self._transport is None:
            raise SupervisorGone
        if self._transport.is_closing():
            await asyncio.wait({self._lost})  # a caller that retries then finds that on_lost was called
            raise SupervisorGone
        message, answer = self._request(do, **arguments)
        self._transport.write(message)
        return await answer

    def _request(self, do: str, **arguments: object) -> tuple[bytes, asyncio.Future[dict[str, Any]]]:
        """Return a message to send, and the future of its answer."""
        self._last_call += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[self._last_call] = answer
        return encode({"call": self._last_call, "do": do, **arguments}), answer

    async def request_takeover(self, pidfds: Mapping[str, int]) -> None:
        """Request the takeover of the jobs of dead supervisors; the pidfds, by job, give the exit codes.

        No other call may be in progress.
        """
        assert self._transport is not None
        names = list(pidfds)
        peer = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        with peer:
            for first in range(0, len(names), _AT_ONCE):
                batch = names[first : first + _AT_ONCE]
                message, answer = self._request("hold", jobs=batch)
                socket.send_fds(peer, [message], [pidfds[name] for name in batch])
                await answer
        await self.call("adopt")

    async def close(self) -> None:
        """Disconnect; the supervisor and its jobs keep running."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait({self._lost}, timeout=_CLOSE_PATIENCE)
            self._transport.abort()  # for a supervisor that is stuck; otherwise this does nothing
            await asyncio.wait({self._lost})

    def _dispatch(self, message: Message) -> None:
        call = message.get("call")
        if isinstance(call, int):
            answer = self._calls.pop(call, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        else:
            self._on_event(message)

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the protocol's signature
        """Return the buffer to receive into, the same each time."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received messages."""
        try:
            for message in self._decoder.feed(self._room[:nbytes]):
                self._dispatch(message)
        except Exception:  # otherwise callers would wait forever for their answers
            log.exception("invalid message from the supervisor; disconnecting")
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Fail the pending calls; call ``on_lost`` unless we closed the connection."""
        self._lost.set_result(None)
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(SupervisorGone())
        self._calls.clear()
        if not self._closing:
            self._on_lost()


def _checked_protocol(answer: Mapping[str, Any]) -> int:
    theirs = int(answer["protocol"])  # protocol 1 has no hello, but its refusal contains the version
    if theirs < OLDEST_PROTOCOL or answer.get("oldest", theirs) > PROTOCOL:
        raise SpawnerUnavailable(
            f"a running supervisor speaks protocol {theirs}, and this version of worker speaks "
            f"{OLDEST_PROTOCOL} to {PROTOCOL}; use the version that started its jobs until they have ended"
        )
    return theirs


def start_supervisor(layout: Layout, generation: str) -> None:
    """Start a supervisor, and block until it, or another one of this generation, listens."""
    layout.make()
    layout.generation(generation).mkdir(mode=0o700, exist_ok=True)
    log_path = layout.supervisor / "log"
    ready_read, ready_write = os.pipe()
    try:
        with open(log_path, "ab", opener=partial(os.open, mode=0o600)) as log:
            command = [sys.executable, "-P", "-m", "worker.linux.supervisor", str(layout.state_dir)]
            # It forks once more and leaves this session, so that it outlives us.
            subprocess.run(
                [*supervisor_scope(layout.state_dir), *command, generation, str(ready_write)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[ready_write],
                cwd="/",
                env=environment(),
                check=False,
            )
        os.close(ready_write)
        ready_write = -1
        if not os.read(ready_read, 100):
            raise SupervisorGone  # or it could not be started; see its log
    finally:
        os.close(ready_read)
        if ready_write >= 0:
            os.close(ready_write)
