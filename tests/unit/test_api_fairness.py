"""Turns: one a round, in order, whoever gives up."""

import asyncio

from worker.api.fairness import RoundRobin


def test_one_goes_on_in_each_round() -> None:
    """Each has as many turns as any other, and what else the loop has to do is done between two of them."""
    turns: list[str] = []

    async def stream(name: str, robin: RoundRobin) -> None:
        for _ in range(20):
            await robin.turn()
            turns.append(name)

    async def call(rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        turns.append("call")

    async def scenario() -> None:
        robin = RoundRobin()
        await asyncio.gather(*(stream(name, robin) for name in "abcdefgh"), call(10))

    asyncio.run(scenario())
    assert turns.index("call") <= 10
    streams = [name for name in turns if name != "call"]
    assert list("abcdefgh" * 20) == streams


async def test_who_gives_up_holds_up_nobody() -> None:
    """A stream that is cancelled while it waits loses its turn and no other's."""
    robin = RoundRobin()
    waiting = [asyncio.create_task(robin.turn()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [True, False, True, False, True] == [task.cancelled() for task in waiting]
    await robin.turn()
