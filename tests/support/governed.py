"""A server with a policy, its clients, and how their calls are refused."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from worker.client.errors import RpcError
from worker.core.model.job import JobSpec
from worker.core.policy.in_force import PolicyInForce

from .policies import read
from .served import Served, serving

ALICE = """
[[rule]]
name = "alice"
clients = ["alice"]
calls = ["start", "read", "output", "stop", "signal", "update", "attach", "remove"]
commands = ["/usr/bin/true", { path = "/usr/bin/sleep", args = ["*"] }, "/usr/bin/cat"]
stdin = true
"""
LONG = JobSpec("sleep", ["1000"])


@asynccontextmanager
async def governed(people: Path, policy: str) -> AsyncIterator[Served]:
    """Serve with a policy."""
    async with serving(people, policy=PolicyInForce(read(policy))) as served:
        yield served


async def refusal(call: object) -> tuple[str, str]:
    """Return code and message of a call that is refused."""
    answer = anext(call) if isinstance(call, AsyncGenerator) else call
    with pytest.raises(RpcError) as caught:
        await answer  # type: ignore[misc]
    return caught.value.code, caught.value.message
