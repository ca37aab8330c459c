"""Lookups on the host that may block: in NSS, and of paths that clients name.

On a host with an unresponsive LDAP or NFS server they can block a thread for ever. So they do not run in
asyncio's shared threads: code that acts for a client sets ``runner``, which runs that client's lookups.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


class LookupRunner(Protocol):
    """Runs functions that may block."""

    async def __call__(self, function: Callable[[], _Answer], /) -> _Answer:
        """Return what a function returns; raise what it raises, or HostUnresponsive if it takes long."""
        ...


async def _in_shared_threads(function: Callable[[], _Answer], /) -> _Answer:
    return await asyncio.to_thread(function)


runner: ContextVar[LookupRunner] = ContextVar("runner", default=_in_shared_threads)
"""What runs the lookups of the current task, and of the tasks that it starts."""


async def look_up(
    function: Callable[_Parameters, _Answer], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Answer:
    """Call a function that may block, for the client of the current task; raises as a LookupRunner."""
    return await runner.get()(partial(function, *args, **kwargs))
