"""A session at the terminal of a job: its screen is shown and its keys are typed in the local terminal."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...client.window import Window
from .console import end_line, note
from .input_copy import InputCopy, ReadFailed, copy_beside
from .keyboard import Keyboard
from .local_terminal import LocalTerminal, local_size
from .output_copy import OutputCopies
from .standard_input import StandardInput, hint_unused

_LAST_KEYS = 1.0
"""Seconds that the server has to accept what was typed before the detach keys."""


class TerminalSession:
    """One session. If stdin is not a terminal, its bytes are typed, and nothing detaches.

    ``name``: that of the job, for the note how to return.
    ``redraws``: the programs redraw their screen, which others have seen before.
    """

    def __init__(
        self,
        terminal: LocalTerminal,
        stdin: StandardInput,
        detach_keys: bytes,
        *,
        redraws: bool,
        name: str = "",
    ) -> None:
        self._name = name
        self._terminal = terminal
        self._window = Window(local_size(), redraws=redraws)
        self._keyboard = Keyboard(stdin.read, detach_keys if terminal.present else b"")
        window = self._window if terminal.present else None
        self._copy = InputCopy(self._keyboard.read, window=window)

    @property
    def more(self) -> bool:
        """Whether the job may read more input."""
        return self._copy.more

    async def run(self, job: Job, output: OutputCopies) -> bool:
        """Show output until it ends, or the user detaches; return whether the user has."""
        copying = asyncio.ensure_future(copy_beside(self._copy, job, output.run()))
        skipping = asyncio.ensure_future(self._skip(output))
        typing = asyncio.ensure_future(self._keyboard.run())
        detaching = asyncio.ensure_future(self._keyboard.detached.wait())
        try:
            with self._raw():
                await asyncio.wait({copying, detaching}, return_when=asyncio.FIRST_COMPLETED)
                if copying.done():
                    copying.result()
                    return False
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_KEYS):
                        await self._copy.over.wait()
        finally:
            tasks = copying, skipping, typing, detaching
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        note(f"detached; worker attach -i {self._name or job} returns")
        return True

    async def _skip(self, output: OutputCopies) -> None:
        """Discard the backlog of output at an interrupt, as a terminal does."""
        while True:
            await self._keyboard.interrupted.wait()
            self._keyboard.interrupted.clear()
            with suppress(RpcError, ServerUnreachable):  # the copy itself reports it
                await output.skip_backlog()

    @contextmanager
    def _raw(self) -> Iterator[None]:
        """Have the local terminal in raw mode; after an early end, continue in a new line."""
        loop = asyncio.get_running_loop()
        try:
            self._terminal.make_raw()
        except OSError as error:
            raise ReadFailed(f"cannot change the mode of the terminal: {error.strerror}") from None
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        loop.add_signal_handler(signal.SIGCONT, self._resume)
        over = False
        try:
            yield
            over = not self._keyboard.detached.is_set()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_signal_handler(signal.SIGCONT)
            self._terminal.restore()
            if not over:
                end_line()

    def _resize(self) -> None:
        self._window.change(local_size())

    def _resume(self) -> None:
        self._terminal.resume()
        self._resize()


class SizeOnly:
    """Passes only the size of the local terminal on, to a job that has a terminal and no stdin."""

    more = False

    async def run(self, job: Job, output: OutputCopies) -> bool:
        """Copy output until it ends, and pass the size on after each change; return False: no detach."""
        hint_unused()
        window = Window(local_size())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, lambda: window.change(local_size()))
        following = asyncio.ensure_future(self._follow(job, window))
        try:
            await output.run()
            return False
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, job: Job, window: Window) -> None:
        with suppress(
            RpcError, ServerUnreachable
        ):  # such as without the right: the size is that of the start
            async for _ in job.attach(window=window):
                pass


async def copy_until_detached(
    stdin: InputCopy | TerminalSession | SizeOnly | None,
    job: Job,
    output: OutputCopies,
) -> bool:
    """Copy output until it ends, and pass stdin on meanwhile; return whether the user has detached."""
    if isinstance(stdin, TerminalSession | SizeOnly):
        return await stdin.run(job, output)
    await copy_beside(stdin, job, output.run())
    return False
