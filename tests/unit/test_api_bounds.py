"""How many streams may be open, by client and in all."""

from contextlib import ExitStack

import pytest

from worker.api.bounds import Bounds, StreamSlots
from worker.core.errors import QuotaExceeded


def test_a_client_has_its_share_and_no_more() -> None:
    """Beyond it the message names the setting; what is given back is free again; others have their own."""
    slots = StreamSlots(Bounds(max_streams=100, max_streams_per_client=2))
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(slots.taken("a"))
        with pytest.raises(QuotaExceeded, match=r"'a' has 2 streams open.*setting max_streams_per_client"):
            held.enter_context(slots.taken("a"))
        held.enter_context(slots.taken("b"))
    with slots.taken("a"), slots.taken("a"):
        pass


def test_all_clients_together_have_a_bound() -> None:
    """Also for those that have few themselves."""
    slots = StreamSlots(Bounds(max_streams=2, max_streams_per_client=2))
    with slots.taken("a"):
        with slots.taken("b"), pytest.raises(QuotaExceeded, match=r"2 streams are open.*max_streams\)"):
            slots.taken("c").__enter__()
        with slots.taken("c"):
            pass
