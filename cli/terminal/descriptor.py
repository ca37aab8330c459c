"""Writes bytes to an open descriptor without blocking the event loop.

A reader may pause for hours (`worker stream JOB | less`), while the pings of the connection must be
answered. The descriptor stays in blocking mode, because the shell shares it.
"""

import asyncio
import fcntl
import os
import select
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from errno import EINVAL, ENOSYS, EOPNOTSUPP, ESPIPE

from .console import write_failed

# A pipe that poll(2) reports as writable takes this much without blocking (pipe(7), PIPE_BUF).
_PIECE = select.PIPE_BUF

# RWF_NOWAIT on a pipe, Linux 6.4: writes what fits, also in blocking mode (pwritev2(2); -1: no offset).
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)  # 0: this is another system
_NO_OFFSET = -1


class OutputDescriptor:
    """Stdout or stderr, for bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._piece = 1 << 20 if is_file else _PIECE
        self._unblocked = bool(_NOWAIT) and not is_file

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; raise PipeClosed or WriteFailed if that fails."""
        rest = memoryview(data)
        while rest:
            try:
                if self._unblocked:
                    rest = rest[os.pwritev(self._descriptor, [rest], _NO_OFFSET, _NOWAIT) :]
                    continue
                if not self._poll.poll(0):
                    await self._writable()
                rest = rest[os.write(self._descriptor, rest[: self._piece]) :]
            except BlockingIOError:  # O_NONBLOCK was set by another process, or another writer was faster
                await self._writable()
            except OSError as error:
                if not self._unblocked or error.errno not in {EOPNOTSUPP, ENOSYS, EINVAL, ESPIPE}:
                    raise write_failed(self._descriptor, error) from error
                self._unblocked = False

    @asynccontextmanager
    async def until_closed(self) -> AsyncIterator[None]:
        """Cancel the body and raise PipeClosed when the last reader of the pipe closes it."""
        # A pipe that is also open for reading, as O_RDWR, keeps a reader: this process.
        only_writes = fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        if not only_writes or not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            yield
            return
        loop, closed = asyncio.get_running_loop(), asyncio.timeout(None)

        def end() -> None:
            loop.remove_reader(self._descriptor)
            closed.reschedule(loop.time())

        # For the write end of a pipe, epoll(7) reports EPOLLERR, and nothing else, to a reader.
        loop.add_reader(self._descriptor, end)
        try:
            async with closed:
                yield
        except TimeoutError:
            if not closed.expired():
                raise
            raise write_failed(self._descriptor, BrokenPipeError()) from None
        finally:
            loop.remove_reader(self._descriptor)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)
