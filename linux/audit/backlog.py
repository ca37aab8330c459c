"""Records that a reader has not taken yet: they wait in memory, and the event loop sends them."""

import asyncio
import logging
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from errno import EAGAIN

MOST_WAITING = 4 << 20
"""Bytes that may wait."""

_CLOSE_PATIENCE = 1.0
"""Seconds that `close` waits for the reader."""

log = logging.getLogger(__name__)


class Backlog:
    """Sends to a descriptor in order; ``send`` returns how much was sent, or raises BlockingIOError."""

    def __init__(self, descriptor: int, send: Callable[[bytes], int], *, most: int = MOST_WAITING) -> None:
        self._descriptor = descriptor
        self._send = send
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._failure: OSError | None = None
        self._torn = False

    def put(self, data: bytes) -> None:
        """Send data now or later; raise OSError if too much waits, or if what waited could not be sent."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if not self._waiting:
            if self._torn:
                data = b"\n" + data
            data = self._rest(data, started=False)
            self._torn = False
            if not data:
                return
        elif self._size + len(data) > self._most:
            raise BlockingIOError(EAGAIN, "its reader does not read")
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._descriptor, self._flush)
        self._waiting.append(data)
        self._size += len(data)

    def close(self) -> None:
        """Send what waits, if the reader takes it soon."""
        deadline = time.monotonic() + _CLOSE_PATIENCE
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while self._waiting and time.monotonic() < deadline:
            poll.poll(_CLOSE_PATIENCE * 1000)
            self._flush()
        if self._waiting:
            log.warning("%d records of the audit log were not read, and are lost", len(self._waiting))
            self._clear()

    def _rest(self, data: bytes, *, started: bool) -> bytes:
        """Send data, and return what is left of it. The rest of what was begun always waits."""
        try:
            while data:
                data = data[self._send(data) :]
                started = True
        except BlockingIOError:
            if not started and len(data) > self._most:
                raise BlockingIOError(EAGAIN, "its reader does not read") from None
        except OSError:
            self._torn |= started  # a file on a full disk
            raise
        return data

    def _flush(self) -> None:
        """Send what waits, as far as the reader takes it."""
        try:
            while self._waiting:
                first = self._waiting[0]
                rest = self._rest(first, started=True)
                self._size -= len(first) - len(rest)
                if rest:
                    self._waiting[0] = rest
                    return
                self._waiting.popleft()
        except OSError as error:
            log.warning("%d records of the audit log are lost: %s", len(self._waiting), error)
            self._failure = error
        self._clear()

    def _clear(self) -> None:
        self._waiting.clear()
        self._size = 0
        with suppress(RuntimeError):  # at the close, the loop may have ended
            asyncio.get_running_loop().remove_writer(self._descriptor)
