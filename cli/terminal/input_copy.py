"""Passes stdin on to a job."""

import asyncio
from collections.abc import Coroutine

from ...api.pending_input import InputFailed
from ...api.resuming import ResumingClient
from ...core.model.input import InputState
from .console import Failure, note, printable
from .standard_input import StandardInput, check_readable, hint_unused


class ReadFailed(Failure):
    """Stdin cannot be read any further; the input of the job was not ended."""


class InputCopy:
    """Passes all of stdin on to a job, and then ends the input of the job.

    ``offset`` is that of its first byte in the input of the job; None: it continues other input. Raises
    Failure at once if stdin cannot be read.
    """

    def __init__(self, offset: int | None = None) -> None:
        check_readable()
        self._offset = offset
        self._stdin = StandardInput()
        self.cut_off = ""
        """Why the job reads no more, although it did not get all of stdin."""

    async def run(self, client: ResumingClient, job: str) -> None:
        """Return when the server has accepted all of stdin, or the job reads no more."""
        try:
            async for event in client.attach(job, read=self._stdin.read, offset=self._offset):
                if isinstance(event, InputState):
                    self.cut_off = "" if event.ended else event.closed
        except InputFailed as error:
            raise ReadFailed(f"cannot read stdin: {error}") from None


async def copy_beside(
    stdin: InputCopy | None, client: ResumingClient, job: str, output: Coroutine[object, object, None]
) -> None:
    """Copy output until it ends, and pass stdin on meanwhile; raise the first error of either."""
    if stdin is None:
        hint_unused()
        await output
        return
    passing = asyncio.ensure_future(stdin.run(client, job))
    copying = asyncio.ensure_future(output)
    try:
        await asyncio.wait({passing, copying}, return_when=asyncio.FIRST_COMPLETED)
        if passing.done():
            passing.result()
            if stdin.cut_off and (await client.query(job)).ending is None:
                note(printable(stdin.cut_off))
        await copying
    finally:
        for task in (passing, copying):
            task.cancel()
        await asyncio.gather(passing, copying, return_exceptions=True)
