"""Threads for lookups on the host, bounded for each client: if the lookups of one hang, others do not wait.

A thread that waits for an NFS server that does not respond cannot be ended. So the call fails after a
timeout, the thread counts until it returns, and it is a daemon thread: the server can exit.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from ..core.errors import HostUnresponsive
from ..core.model.client_id import ClientId
from .bounds import Bounds
from .fairness import FairQueue

_Answer = TypeVar("_Answer")


@dataclass(slots=True, eq=False)
class _Lookup:
    """A lookup that waits or runs; ``began`` is the time of the event loop."""

    client: ClientId
    function: Callable[[], object]
    answer: "asyncio.Future[Any]"
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class _ClientThreads:
    """The LookupRunner of a client."""

    threads: "LookupThreads"
    client: ClientId

    async def __call__(self, function: Callable[[], _Answer], /) -> _Answer:
        return await self.threads.run(self.client, function)


class LookupThreads:
    """Runs lookups in as many threads as there were at once; the clients take turns."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiting: FairQueue[_Lookup] = FairQueue()
        self._running: set[_Lookup] = set()
        self._begun: SimpleQueue[_Lookup | None] = SimpleQueue()
        self._idle = 0  # threads that wait for the next lookup; each of the others has one
        self._closed = False

    def close(self) -> None:
        """End each thread when it has no lookup; the starts that go on may still look up."""
        self._closed = True
        while self._idle:
            self._idle -= 1
            self._begun.put(None)

    def of(self, client: ClientId) -> _ClientThreads:
        """Return what runs the lookups of a client."""
        return _ClientThreads(self, client)

    async def run(self, client: ClientId, function: Callable[[], _Answer]) -> _Answer:
        """Return what a function returns; raise what it raises.

        Raises HostUnresponsive if it takes longer than ``lookup_timeout``, its turn included; at once if
        all threads of the client have taken longer than that.
        """
        loop = asyncio.get_running_loop()
        patience = self._bounds.lookup_timeout
        if len(self._overdue(client, loop.time() - patience)) >= self._bounds.max_lookups_per_client:
            raise HostUnresponsive(patience)
        answer: asyncio.Future[_Answer] = loop.create_future()
        self._waiting.push(client, _Lookup(client, function, answer))
        self._begin_next()
        try:
            await asyncio.wait((answer,), timeout=patience)
            if answer.done():
                return answer.result()
            raise HostUnresponsive(patience)
        finally:
            answer.cancel()

    def _overdue(self, client: ClientId, before: float) -> list[_Lookup]:
        return [each for each in self._running if each.client == client and each.began <= before]

    def _may_begin(self, client: ClientId) -> bool:
        running = sum(each.client == client for each in self._running)
        return running < self._bounds.max_lookups_per_client

    def _begin_next(self) -> None:
        while len(self._running) < self._bounds.max_lookups:
            found = self._waiting.pop(self._may_begin)
            if found is None:
                return
            _, lookup = found
            if not lookup.answer.done():  # done: its call has ended
                self._begin(lookup)

    def _begin(self, lookup: _Lookup) -> None:
        if self._idle:
            self._idle -= 1
        else:
            try:
                Thread(target=_serve, args=(self._begun, self._ended), name="lookups", daemon=True).start()
            except RuntimeError as error:  # no further thread can be started
                reason = HostUnresponsive(self._bounds.lookup_timeout, str(error))
                lookup.answer.set_exception(reason)
                return
        lookup.began = lookup.answer.get_loop().time()
        self._running.add(lookup)
        self._begun.put(lookup)

    def _ended(self, lookup: _Lookup, result: object, error: BaseException | None) -> None:
        self._running.discard(lookup)
        if self._closed:
            self._begun.put(None)
        else:
            self._idle += 1
        if not lookup.answer.done():  # done: the call has got its answer without it
            if error is None:
                lookup.answer.set_result(result)
            else:
                lookup.answer.set_exception(error)
        self._begin_next()


def _serve(begun: "SimpleQueue[_Lookup | None]", ended: Callable[[_Lookup, object, Any], object]) -> None:
    """Run lookups in a thread, until there is None instead of one."""
    while (lookup := begun.get()) is not None:
        result: object = None
        error: BaseException | None = None
        try:
            result = lookup.function()
        except BaseException as failure:  # noqa: BLE001 - raised in the task that waits
            error = failure
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            lookup.answer.get_loop().call_soon_threadsafe(ended, lookup, result, error)
        del lookup, result, error
