"""Memory of clients: never more than allowed, in order, and given back."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.api.byte_budget import ByteBudget
from worker.core.errors import QuotaExceeded
from worker.core.model.client_id import ClientId

from ..support.examples import examples

A, B, C = ClientId("a", "CN=1"), ClientId("a", "CN=2"), ClientId("c", "CN=1")
"""Two of them have the same name."""


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.integers(1, 75), st.integers(0, 3), st.booleans()),
        max_size=30,
    )
)
async def test_nobody_gets_more_than_allowed(requests: list[tuple[ClientId, int, int, bool]]) -> None:
    """Whoever waits gets its bytes in the end, unless it is cancelled, and everything is given back."""
    budget = ByteBudget(per_client=100, total=150, setting="s")
    used: Counter[ClientId] = Counter()

    async def use(client: ClientId, size: int, rounds: int) -> None:
        await budget.take(client, size)
        used[client] += size
        assert used[client] <= 100
        assert used.total() <= 150
        try:
            for _ in range(rounds):
                await asyncio.sleep(0)
        finally:
            used[client] -= size
            budget.release(client, size)

    tasks = [asyncio.create_task(use(*each[:3])) for each in requests]
    await asyncio.sleep(0)
    for task, (*_, cancel) in zip(tasks, requests, strict=True):
        if cancel:
            task.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
    assert 0 == budget.used
    assert budget.try_take(A, 100)


async def test_a_client_that_has_used_up_its_own_does_not_hold_up_others() -> None:
    """Those that wait leave a quarter to those that cannot."""
    budget = ByteBudget(per_client=100, total=200, setting="s")
    await budget.take(A, 75)
    waiting = asyncio.ensure_future(budget.take(A, 10))
    await asyncio.sleep(0)
    await asyncio.wait_for(budget.take(B, 50), 60)
    assert not waiting.done()
    assert budget.try_take(A, 25)
    assert not budget.try_take(A, 1)
    budget.release(A, 40)
    await asyncio.wait_for(waiting, 60)


async def test_what_nobody_may_have_is_refused() -> None:
    """It would wait for ever; the error names the setting."""
    with pytest.raises(QuotaExceeded, match=r"76 bytes are more than any client may use \(setting s\)"):
        await ByteBudget(per_client=100, total=200, setting="s").take(A, 76)
