"""A non-blocking connection that carries messages, on the event loop."""

import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from .event_loop import Loop
from .framing import (
    BadMessage,
    Decoder,
    Message,
    encode,
)
from .unix_sockets import peer_user, receive

_MOST_UNSENT = 64 << 20
"""Bytes queued for a peer. A peer that stops reading is disconnected; it lists all jobs on reconnect."""


class MessageConnection:
    """Calls ``on_message`` for each message, and ``on_close`` once when the connection is closed."""

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
        """Send as much as the socket accepts now, and the rest later.

        ``descriptors`` are sent along unless earlier bytes are queued. In transit the kernel keeps them
        open, even if sender and receiver die.
        """
        if not self.open:
            return
        data = encode(message)
        if not self._unsent:
            with suppress(OSError):  # an error shows again when the rest is sent
                sent = (
                    socket.send_fds(self._peer, [data], descriptors)
                    if descriptors
                    else self._peer.send(data)
                )
                if sent == len(data):
                    return
                data = data[sent:]
        self._unsent += data
        self._flush()

    def take_descriptors(self) -> list[int]:
        """Return the descriptors received so far; the caller must close them."""
        taken, self._descriptors = self._descriptors, []
        return taken

    def read(self) -> None:
        """Receive everything that has arrived."""
        while self._receive():
            pass

    def _receive(self) -> bool:
        """Receive some of what has arrived; return whether there may be more."""
        if not self.open:
            return False
        try:
            data, descriptors = receive(self._peer)
        except BlockingIOError:
            return False
        except ConnectionError:
            data, descriptors = b"", []
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
        """Close the connection."""
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
        self._receive()  # epoll reports again if there is more

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
