"""An event loop over epoll: descriptors, and one alarm."""

import logging
import select
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""epoll_wait measures CLOCK_MONOTONIC, deadlines CLOCK_BOOTTIME: they part while suspended."""


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loop:
    """Calls back when a descriptor is ready, and ``on_turn`` after each round."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._running = True

    def watch(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call back whenever the descriptor is ready; replaces an earlier watch of it."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching; before the descriptor is closed."""
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)

    def stop(self) -> None:
        """Return from ``run`` after this round."""
        self._running = False

    def run(self, on_turn: Callable[[], float | None]) -> None:
        """Loop. ``on_turn`` does what is due and returns the boottime at which more will be."""
        while True:
            deadline = on_turn()
            if not self._running:
                return
            wait = _LONGEST_WAIT if deadline is None else min(_LONGEST_WAIT, deadline - boottime())
            for fd, _ in self._epoll.poll(max(0.0, wait)):
                callback = self._callbacks.get(fd)
                if callback:  # an earlier callback of this round may have ended the watch
                    try:
                        callback()
                    except Exception:
                        log.exception("one job's trouble is no other's")
