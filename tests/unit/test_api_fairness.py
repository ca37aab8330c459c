"""Turns: in order, between clients, and also when tasks are cancelled while they wait."""

import asyncio
from collections import Counter, defaultdict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api import fairness
from worker.api.bounds import Bounds
from worker.api.fairness import CallTurns, FairQueue, RoundRobin
from worker.core.errors import QuotaExceeded
from worker.core.model.client_id import ClientId

from ..support.examples import examples

A, B, C = ClientId("a", "CN=1"), ClientId("a", "CN=2"), ClientId("c", "CN=1")
"""Two of them have the same name."""


async def test_one_stream_continues_in_each_iteration() -> None:
    """All streams get the same number of turns, and other tasks run between two of them."""
    turns: list[str] = []

    async def stream(name: str, robin: RoundRobin) -> None:
        for _ in range(20):
            await robin.turn(A)
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


async def test_clients_take_turns_however_many_streams_they_have() -> None:
    """A client with one stream gets as many turns as one with fifty."""
    turns: Counter[ClientId] = Counter()
    robin = RoundRobin()

    async def stream(client: ClientId) -> None:
        while True:
            await robin.turn(client)
            turns[client] += 1

    tasks = [asyncio.create_task(stream(A)) for _ in range(50)]
    tasks.append(asyncio.create_task(stream(B)))
    for _ in range(300):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert turns[B] >= turns[A] // 2 - 1


async def test_a_cancelled_stream_does_not_block_others() -> None:
    """Only the stream that is cancelled while it waits loses its turn."""
    robin = RoundRobin()
    waiting = [asyncio.create_task(robin.turn(A)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [True, False, True, False, True] == [task.cancelled() for task in waiting]
    await robin.turn(A)


@given(st.lists(st.one_of(st.sampled_from([A, B, C]), st.none()), max_size=60))
def test_a_fair_queue_keeps_order_and_takes_turns(steps: list[ClientId | None]) -> None:
    """Nothing is lost; a client's items keep their order; no client gets two turns while another waits."""
    queue: FairQueue[int] = FairQueue()
    model: defaultdict[ClientId, deque[int]] = defaultdict(deque)
    since: dict[ClientId, int] = {}  # the turn at which a client began to wait
    for number, client in enumerate(steps):
        if client is not None:
            queue.push(client, number)
            if not model[client]:
                since[client] = number
            model[client].append(number)
            continue
        found = queue.pop()
        if found is None:
            assert not any(model.values())
            continue
        name, item = found
        assert item == model[name].popleft()
        waiting = [each for each in model if model[each] and each != name]
        assert all(since[name] <= since[each] for each in waiting)
        since[name] = number
    assert bool(queue) == any(model.values())


@pytest.mark.parametrize("cancelled", [False, True])
async def test_long_calls_begin_one_by_one(cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """Another client's call begins after one of a hundred that came first, whether they are cancelled."""
    monkeypatch.setattr(fairness, "SLICE", 0.0)  # every call is long
    turns = CallTurns(Bounds())
    begun: list[ClientId] = []

    async def call(client: ClientId) -> None:
        await turns.begin(client)
        begun.append(client)
        turns.end(client)

    tasks = [asyncio.create_task(call(A)) for _ in range(100)]
    tasks.append(asyncio.create_task(call(B)))
    await asyncio.sleep(0)
    for task in tasks[10:90] if cancelled else []:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert begun.index(B) <= 2
    assert (21 if cancelled else 101) == len(begun)


@settings(max_examples=examples(50))
@given(
    calls=st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 4), st.booleans()), max_size=40),
    most=st.integers(1, 6),
)
async def test_no_more_calls_than_allowed_are_executed(
    calls: list[tuple[ClientId, int, bool]], most: int
) -> None:
    """In all, and of one client three quarters; all are executed in the end, except cancelled ones."""
    turns = CallTurns(Bounds(max_calls=most))
    executing: Counter[ClientId] = Counter()
    done = 0

    async def call(client: ClientId, rounds: int) -> None:
        nonlocal done
        await turns.begin(client)
        try:
            executing[client] += 1
            assert executing.total() <= most
            assert executing[client] <= max(1, most * 3 // 4)
            for _ in range(rounds):
                await asyncio.sleep(0)
            done += 1
        finally:
            executing[client] -= 1
            turns.end(client)

    tasks = [asyncio.create_task(call(client, rounds)) for client, rounds, _ in calls]
    await asyncio.sleep(0)
    for task, (_, _, cancel) in zip(tasks, calls, strict=True):
        if cancel:
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
    assert done == results.count(None)
    for client in (A, B, C):  # everything is free again
        for _ in range(max(1, most * 3 // 4)):
            await asyncio.wait_for(turns.begin(client), 60)
        for _ in range(max(1, most * 3 // 4)):
            turns.end(client)


def test_calls_in_progress_are_bounded() -> None:
    """The error names the client and the setting."""
    turns = CallTurns(Bounds(max_calls_per_client=1))
    turns.enter(A)
    turns.enter(B)
    with pytest.raises(QuotaExceeded, match=r"'a' has 1 calls in progress.*setting max_calls_per_client"):
        turns.enter(A)
    turns.leave(A)
    turns.enter(A)
