"""Waiting for the first of two events."""

import asyncio
from collections.abc import Awaitable


async def occurs_before(event: Awaitable[object], other: Awaitable[object]) -> bool:
    """Wait until one of two events has occurred, and return whether it was ``event``; so if both have.

    The wait for the other one is cancelled.
    """
    waiting = [asyncio.ensure_future(each) for each in (event, other)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return waiting[0].done()
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
