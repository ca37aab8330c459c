"""Tasks that somebody holds on to until they end."""

import asyncio
from collections.abc import Coroutine, Iterator


class Tasks:
    """The event loop keeps only weak references to its tasks; this keeps strong ones."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(self._tasks)

    def start(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run it in a task of its own."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def leave(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run it in a task that nobody waits for."""
        self.start(coroutine)  # type: ignore[unused-awaitable]

    async def close(self) -> None:
        """Cancel what still runs, and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
