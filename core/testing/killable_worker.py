"""A Worker that can be killed between any two of its port calls, and whose ports can fail."""

import asyncio
import inspect
from typing import Any

from ..engine.retention import Retention
from ..worker import Worker
from .fake_limiter import FakeScope
from .fake_machine import FakeMachine
from .fake_spawner import FakeProcess


class _Port:
    """A port of a KillableWorker: each call yields to the event loop twice, and fails once it is killed."""

    def __init__(self, worker: "KillableWorker", name: str, port: object) -> None:
        self._worker = worker
        self._name = name
        self._port = port

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*arguments: object, **options: object) -> object:
            await self._worker.yield_unless_killed()
            if name != "wait":  # only the end of the job ends this call
                self._worker.raise_failure(self._name)
            result = await attribute(*arguments, **options)
            await self._worker.yield_unless_killed()
            if isinstance(result, FakeProcess | FakeScope):
                return _Port(self._worker, self._name, result)
            return result

        return call


class KillableWorker(Worker):
    """A Worker on a FakeMachine that can be killed as by ``kill -9``; the machine keeps its state.

    ``failures`` are errors that calls to a port raise instead of returning: by name of the port, as
    "journal", the number of calls that still succeed, and the error of the next one.
    """

    def __init__(self, machine: FakeMachine, *, retention: Retention | None = None) -> None:
        self.failures: dict[str, tuple[int, Exception]] = {}
        self._killed = False
        super().__init__(
            spawner=_Port(self, "spawner", machine.spawner),
            limiter=_Port(self, "limiter", machine.limiter),
            outputs=_Port(self, "outputs", machine.outputs),
            journal=_Port(self, "journal", machine.journal),
            clock=machine.clock,
            retention=retention,
        )

    async def kill(self) -> None:
        """End all tasks of the Worker; its port calls get no further."""
        self._killed = True
        await self._tasks.close()

    async def yield_unless_killed(self) -> None:
        """Yield to other tasks; raise CancelledError once this Worker has been killed."""
        await asyncio.sleep(0)
        if self._killed:
            raise asyncio.CancelledError

    def raise_failure(self, port: str) -> None:
        """Raise the failure of this port if it is due now."""
        if port in self.failures:
            calls, error = self.failures.pop(port)
            if calls == 0:
                raise error
            self.failures[port] = calls - 1, error
