"""A server that dies from one moment to the next, or whose ports refuse, at any of its calls."""

import asyncio
import inspect
from typing import Any

from ..engine.retention import Retention
from ..worker import Worker
from .fake_limiter import FakeScope
from .fake_machine import FakeMachine
from .fake_spawner import FakeProcess


class _Line:
    """A server's line to one port: each call takes two turns of the loop; the dead make none."""

    def __init__(self, server: "SuddenServer", name: str, port: object) -> None:
        self._server = server
        self._name = name
        self._port = port

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*arguments: object) -> object:
            await self._server.turn()
            if name != "wait":  # which the end of a job answers, and nothing else
                self._server.refuse(self._name)
            answer = await attribute(*arguments)
            await self._server.turn()
            if isinstance(answer, FakeProcess | FakeScope):
                return _Line(self._server, self._name, answer)
            return answer

        return call


class SuddenServer:
    """A Worker on a machine, that can be killed as by ``kill -9``: what outlives it is the machine's.

    ``refusals`` are the errors that the next calls to a port raise in the place of an answer: per
    port, as "journal", after how many further calls, and what.
    """

    def __init__(self, machine: FakeMachine, *, retention: Retention | None = None) -> None:
        self.refusals: dict[str, tuple[int, Exception]] = {}
        self.dead = False
        self.worker = Worker(
            spawner=_Line(self, "spawner", machine.spawner),
            limiter=_Line(self, "limiter", machine.limiter),
            outputs=_Line(self, "outputs", machine.outputs),
            journal=_Line(self, "journal", machine.journal),
            clock=machine.clock,
            retention=retention,
        )

    async def turn(self) -> None:
        """Let others run; whoever is dead gets no further."""
        await asyncio.sleep(0)
        if self.dead:
            raise asyncio.CancelledError

    def refuse(self, port: str) -> None:
        """Raise what the port refuses this call with, if it does."""
        if port in self.refusals:
            calls, error = self.refusals.pop(port)
            if calls == 0:
                raise error
            self.refusals[port] = calls - 1, error

    async def kill(self) -> None:
        """Die."""
        self.dead = True
        tasks = list(self.worker._tasks)  # noqa: SLF001 - a process takes its tasks with it
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
