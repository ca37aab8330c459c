"""Passes stdin on to a job."""

import asyncio
from collections.abc import Coroutine

from ...client.errors import InputFailed
from ...client.job import Job
from ...client.pending_input import ReadInput
from ...client.window import Window
from ...core.model.input import InputState
from .console import Failure, note, printable
from .standard_input import hint_unused


class ReadFailed(Failure):
    """Stdin cannot be read any further; the input of the job was not ended."""


class InputCopy:
    """Passes all of stdin on to a job, and then ends the input of the job, unless ``read`` returns None.

    ``session`` is a text that only this command knows, for a job that it has started: stdin is all of the
    input of the job. Empty: it continues other input. ``window`` has the size for the terminal of the job.
    """

    def __init__(self, read: ReadInput, session: str = "", window: Window | None = None) -> None:
        self._read = read
        self._session = session
        self._window = window
        self.over = asyncio.Event()
        """Set when no more is passed on."""
        self.cut_off = ""
        """Why the job reads no more, although it did not get all of stdin."""
        self.more = True
        """Whether the job may read more input."""

    async def run(self, job: Job) -> None:
        """Return when the server has accepted all of stdin, or the job reads no more."""
        try:
            async for event in job.attach(read=self._read, session=self._session, window=self._window):
                if isinstance(event, InputState):
                    self.more = not (event.ended or event.closed)
                    self.cut_off = "" if event.ended else event.closed
        except InputFailed as error:
            raise ReadFailed(f"cannot read stdin: {error}") from None
        finally:
            self.over.set()


def how_to_return(job: Job, rest: str, *, more: bool) -> str:
    """Return what to type once the server is back, for the ``rest`` of the output and ``more`` input."""
    return f"the job keeps running: {rest}" + (f"; its stdin: worker attach -i {job}" if more else "")


async def copy_beside(stdin: InputCopy | None, job: Job, output: Coroutine[object, object, None]) -> None:
    """Copy output until it ends with the job, and pass stdin on; raise the first error of either."""
    if stdin is None:
        hint_unused()
        await output
        return
    passing = asyncio.ensure_future(stdin.run(job))
    copying = asyncio.ensure_future(output)
    try:
        await asyncio.wait({passing, copying}, return_when=asyncio.FIRST_COMPLETED)
        if passing.done():
            passing.result()
            if stdin.cut_off and (await job.query()).ending is None:
                note(printable(stdin.cut_off))
        await copying
        await passing  # ends with the job; it fails if another client has written meanwhile
    finally:
        for task in (passing, copying):
            task.cancel()
        await asyncio.gather(passing, copying, return_exceptions=True)
