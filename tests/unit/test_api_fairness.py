"""RoundRobin: one turn per iteration of the event loop, in order, also when streams are cancelled."""

import asyncio

from worker.api.fairness import RoundRobin


async def test_one_stream_continues_in_each_iteration() -> None:
    """All streams get the same number of turns, and other tasks run between two of them."""
    turns: list[str] = []

    async def stream(name: str, robin: RoundRobin) -> None:
        for _ in range(20):
            await robin.turn("")
            turns.append(name)

    async def call(rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        turns.append("call")

    robin = RoundRobin()
    await asyncio.gather(*(stream(name, robin) for name in "abcdefgh"), call(10))
    assert turns.index("call") <= 10
    streams = [name for name in turns if name != "call"]
    assert list("abcdefgh" * 20) == streams


async def test_a_cancelled_stream_does_not_block_others() -> None:
    """Only the stream that is cancelled while it waits loses its turn."""
    robin = RoundRobin()
    waiting = [asyncio.create_task(robin.turn("")) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [True, False, True, False, True] == [task.cancelled() for task in waiting]
    await robin.turn("")
