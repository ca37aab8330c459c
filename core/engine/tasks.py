"""Strong references to tasks: the event loop keeps only weak ones."""

import asyncio
from collections.abc import Coroutine


class Tasks:
    """The running tasks of a Worker or a server."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task of its own and return the task."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def start_detached(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a coroutine in a task that no caller waits for."""
        self.start(coroutine)  # type: ignore[unused-awaitable]

    async def ended(self) -> None:
        """Wait until all running tasks have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel all running tasks and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
