"""The input of jobs: one writer of each at a time, and which session has written last."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from secrets import token_hex

from ..errors import ActionRefused, InputInterrupted, InputTaken
from ..model.input import InputState
from ..ports import InteractiveProcess
from .job_entry import JobEntry


class JobInput:
    """Writes to the stdin of a job, in a session; InputTaken once the session has another writer."""

    def __init__(self, job: JobEntry, process: InteractiveProcess, session: str) -> None:
        self.session = session or token_hex(16)  # that no other one has
        self.replaced = False
        self._job = job
        self._process = process

    def check(self) -> None:
        """Raise InputTaken if the session has another writer."""
        if self.replaced:
            raise InputTaken(self._job.record.id)

    async def state(self) -> InputState:
        """Return how much was accepted so far."""
        self.check()
        return await self._process.input()

    async def write(self, offset: int, data: bytes) -> InputState:
        """Accept bytes, as InteractiveProcess.write_input."""
        await self._record_writer()
        return await self._process.write_input(offset, data)

    async def end(self, offset: int) -> InputState:
        """End the input, as InteractiveProcess.end_input; ActionRefused for a terminal."""
        if self._job.record.spec.terminal is not None:
            raise ActionRefused(
                "the input of a terminal has no end; programs take the byte 4 (Ctrl-D) for one"
            )
        await self._record_writer()
        return await self._process.end_input(offset)

    async def _record_writer(self) -> None:
        """Record, before the first byte, that the session of this writer is the last one."""
        self.check()
        writer = _writer(self.session)
        if self._job.input_writer != writer:
            await self._process.set_input_writer(writer)
            self._job.input_writer = writer
            self.check()


class InputWriters:
    """The writer of each job that has one."""

    def __init__(self) -> None:
        self._writers: dict[JobEntry, JobInput] = {}

    @asynccontextmanager
    async def taken(
        self, job: JobEntry, process: InteractiveProcess, session: str, *, resumes: bool
    ) -> AsyncIterator[JobInput]:
        """Be the writer of a job's input in the context; InputTaken if another session is.

        A writer of the same session is replaced: its connection is lost, which the server has not noticed
        yet. An empty session is none. ``resumes``: as in ``check_resumed``.
        """
        before = self._writers.get(job)
        if before is not None:
            if before.session != session:
                raise InputTaken(job.record.id)
            before.replaced = True
        writer = self._writers[job] = JobInput(job, process, session)
        try:
            job.input_writer = (await process.input()).writer
            if resumes:
                check_resumed(job, session)
            yield writer
        finally:
            if self._writers.get(job) is writer:
                del self._writers[job]


def check_resumed(job: JobEntry, session: str) -> None:
    """Raise InputInterrupted if another session has written to a job, or has ended its input."""
    if job.input_writer not in {"", _writer(session)}:
        raise InputInterrupted(job.record.id)


def _writer(session: str) -> str:
    """Return what is recorded of a session: whoever knows the session itself can replace its writer."""
    return sha256(session.encode(errors="surrogatepass")).hexdigest()
