"""The input of jobs: one writer of each at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputTaken
from ..model.input import InputState
from ..model.job import JobId
from ..ports import InteractiveProcess


class JobInput:
    """Writes to the stdin of a job, in a session; InputTaken once the session has another writer."""

    def __init__(self, job: JobId, process: InteractiveProcess, session: str) -> None:
        self.session = session
        self.replaced = False
        self._job = job
        self._process = process

    def check(self) -> None:
        """Raise InputTaken if the session has another writer."""
        if self.replaced:
            raise InputTaken(self._job)

    async def state(self) -> InputState:
        """Return how much was accepted so far."""
        self.check()
        return await self._process.input()

    async def write(self, offset: int, data: bytes) -> InputState:
        """Accept bytes, as InteractiveProcess.write_input."""
        self.check()
        return await self._process.write_input(offset, data)

    async def end(self, offset: int) -> InputState:
        """End the input, as InteractiveProcess.end_input."""
        self.check()
        return await self._process.end_input(offset)


class InputWriters:
    """The writer of each job that has one."""

    def __init__(self) -> None:
        self._writers: dict[JobId, JobInput] = {}

    @contextmanager
    def taken(self, job: JobId, process: InteractiveProcess, session: str) -> Iterator[JobInput]:
        """Be the writer of a job's input in the context; InputTaken if another session is.

        A writer of the same session is replaced: its connection is lost, which the server has not noticed
        yet. An empty session is none.
        """
        before = self._writers.get(job)
        if before is not None:
            if not session or before.session != session:
                raise InputTaken(job)
            before.replaced = True
        writer = self._writers[job] = JobInput(job, process, session)
        try:
            yield writer
        finally:
            if self._writers.get(job) is writer:
                del self._writers[job]
