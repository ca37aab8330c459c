"""Calls that go on for long: a new policy ends those that it does not allow.

Each is checked in a task of its own, with the lookups of its client: one whose lookups hang delays no
other.
"""

import asyncio
import logging
from dataclasses import dataclass

from betterproto2 import Message

from ..core import look_up
from ..core.engine.tasks import Tasks
from ..core.errors import WorkerError
from ..core.policy.calls import CallGroup
from .authorization import Authorization
from .identity import Identity
from .lookup_threads import LookupThreads

_AT_ONCE = 100
"""Calls that are checked before other tasks run."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Permitted:
    identity: Identity
    group: CallGroup
    request: Message


class StandingPermits:
    """The permits of running calls, which are the tasks that serve them."""

    def __init__(self, authorization: Authorization, lookups: LookupThreads) -> None:
        self._authorization = authorization
        self._lookups = lookups
        self._calls: dict[asyncio.Task[object], _Permitted] = {}
        self._withdrawn: dict[asyncio.Task[object], WorkerError] = {}
        self._checks = Tasks()

    def add(self, identity: Identity, group: CallGroup, request: Message) -> None:
        """Check the current call again whenever there is a new policy, until its task is done."""
        task = asyncio.current_task()
        assert task is not None
        self._calls[task] = _Permitted(identity, group, request)
        task.add_done_callback(self._discard)

    def withdrawn(self) -> WorkerError | None:
        """Return why the current call is no longer allowed, None if it is."""
        task = asyncio.current_task()
        return None if task is None else self._withdrawn.get(task)

    async def check_again(self) -> None:
        """Cancel the calls that the policy in force does not allow, and those that cannot be checked."""
        for number, (task, each) in enumerate(list(self._calls.items())):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            self._checks.start_detached(self._check(task, each))
        await self._checks.ended()

    async def close(self) -> None:
        """End all checks."""
        await self._checks.close()

    async def _check(self, task: "asyncio.Task[object]", each: _Permitted) -> None:
        look_up.runner.set(self._lookups.of(each.identity.client))
        try:
            await self._authorization.check(each.identity, each.group, each.request)
        except WorkerError as error:
            if task in self._calls:
                log.warning("%r: ending a call after a new policy: %s", each.identity.name, error)
                self._withdrawn[task] = error
                task.cancel()

    def _discard(self, task: "asyncio.Task[object]") -> None:
        self._calls.pop(task, None)
        self._withdrawn.pop(task, None)
