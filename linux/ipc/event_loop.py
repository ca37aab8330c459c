"""An event loop over epoll: descriptors and alarms."""

import heapq
import itertools
import logging
import select
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""Seconds. epoll_wait uses CLOCK_MONOTONIC, deadlines CLOCK_BOOTTIME: they diverge during suspend."""


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Loop:
    """Calls back when a descriptor is ready or a time has come, and ``after_round`` after each round."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._events: dict[int, int] = {}
        self._alarms = _Alarms()
        self._running = True

    def watch(self, fd: int, callback: Callable[[], None], events: int = select.EPOLLIN) -> None:
        """Call back whenever the descriptor is ready; replaces an earlier watch of the descriptor."""
        if fd not in self._callbacks:
            self._epoll.register(fd, events)
        elif self._events[fd] != events:
            self._epoll.modify(fd, events)
        self._callbacks[fd], self._events[fd] = callback, events

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor. Call this before closing it."""
        if self._callbacks.pop(fd, None):
            del self._events[fd]
            self._epoll.unregister(fd)

    def call_at(self, callback: Callable[[], None], at: float | None) -> None:
        """Call back once at this boottime, None: never; replaces an earlier time for the callback."""
        self._alarms.set(callback, at)

    def stop(self) -> None:
        """Return from ``run`` after this round."""
        self._running = False

    def run(self, after_round: Callable[[], float | None]) -> None:
        """Run until ``stop``. ``after_round`` returns the boottime of its next call, None: no deadline."""
        while True:
            for callback in self._alarms.due(boottime()):
                self._call(callback)
            deadline = after_round()
            if not self._running:
                return
            times = [at for at in (deadline, self._alarms.next()) if at is not None]
            wait = min(_LONGEST_WAIT, *(at - boottime() for at in times)) if times else _LONGEST_WAIT
            for fd, _ in self._epoll.poll(max(0.0, wait)):
                ready = self._callbacks.get(fd)
                if ready:  # an earlier callback of this round may have removed the watch
                    self._call(ready)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("Unhandled exception in an event-loop callback; continuing.")


class _Alarms:
    """Callbacks by time. The heap also holds replaced entries, until there are too many of them."""

    def __init__(self) -> None:
        self._times: dict[Callable[[], None], float] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def set(self, callback: Callable[[], None], at: float | None) -> None:
        if at == self._times.get(callback):
            return
        if at is None:
            del self._times[callback]
            return
        self._times[callback] = at
        heapq.heappush(self._heap, (at, next(self._order), callback))
        if len(self._heap) > 2 * len(self._times) + 64:
            self._heap = [each for each in self._heap if self._times.get(each[2]) == each[0]]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """Return the earliest time."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Callable[[], None]]:
        """Remove and return the callbacks whose time has come."""
        callbacks = []
        while (at := self.next()) is not None and at <= now:
            callback = heapq.heappop(self._heap)[2]
            del self._times[callback]
            callbacks.append(callback)
        return callbacks
