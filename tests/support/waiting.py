"""Waiting for conditions that no event announces."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE = 60.0
"""Seconds after which an expected event counts as missing."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true; fail after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the expected condition does not become true"
        time.sleep(0.02)


async def awaited(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the awaitable condition is true; fail after PATIENCE."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.01)
