"""One server's connection: messages in, messages out, never blocking."""

import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from .event_loop import Loop
from .framing import (
    MOST_DESCRIPTORS,
    BadMessage,
    Decoder,
    Message,
    encode,
)
from .unix_sockets import peer_user

_AT_ONCE = 65536
"""Bytes received at once; from 128 KiB on malloc(3) would ask the kernel for each."""

_MOST_UNSENT = 64 << 20
"""Bytes that may wait for a peer; one that reads no more is dropped, and lists anew when it is back."""


class MessageConnection:
    """Calls ``on_message`` for each message, and ``on_close`` once when the peer has gone."""

    def __init__(
        self,
        loop: Loop,
        peer: socket.socket,
        on_message: Callable[["MessageConnection", Message], None],
        on_close: Callable[["MessageConnection"], None],
    ) -> None:
        self._loop = loop
        self._peer = peer
        self._on_message = on_message
        self._on_close = on_close
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._descriptors: list[int] = []
        self.open = peer_user(peer) in {0, os.geteuid()}
        peer.setblocking(False)
        if self.open:
            loop.watch(peer.fileno(), self._ready, select.EPOLLIN)
        else:
            peer.close()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send now what the socket takes, the rest when it takes more.

        ``descriptors`` go along unless something waits already: on their way they are open, whoever dies.
        """
        if not self.open:
            return
        data = encode(message)
        if descriptors and not self._unsent:
            with suppress(OSError):  # what is wrong shows when the rest is sent
                data = data[socket.send_fds(self._peer, [data], descriptors) :]
        self._unsent += data
        self._flush()

    def take_descriptors(self) -> list[int]:
        """Return those that have come with the messages so far; they are the caller's to close."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def read(self) -> None:
        """Take in everything that has arrived."""
        while self._receive():
            pass

    def _receive(self) -> bool:
        """Take in some of what has arrived; return whether there may be more."""
        if not self.open:
            return False
        try:
            data, descriptors, *_ = socket.recv_fds(self._peer, _AT_ONCE, MOST_DESCRIPTORS)
        except BlockingIOError:
            return False
        except ConnectionError:
            data, descriptors = b"", []
        for fd in descriptors:  # Python 3.11 drops the flags of recv_fds, MSG_CMSG_CLOEXEC with them
            os.set_inheritable(fd, False)
        self._descriptors += descriptors
        if not data:
            self.close()
            return False
        try:
            for message in self._decoder.feed(data):
                self._on_message(self, message)
        except BadMessage:
            self.close()
        return True

    def close(self) -> None:
        """Drop the peer."""
        if self.open:
            self.open = False
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            for fd in self.take_descriptors():
                os.close(fd)
            self._on_close(self)

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        self._receive()  # epoll tells if there is more

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._peer.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > _MOST_UNSENT:
            self.close()
            return
        events = select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0)
        self._loop.watch(self._peer.fileno(), self._ready, events)
