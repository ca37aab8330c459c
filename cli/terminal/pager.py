"""Long output page by page: through $PAGER, else less, if stdout is a terminal and the output is longer."""

import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator

from .console import say

_DEFAULT = "less"
_LESS = {"LESS": "FRX"}
"""Quit if the output fits, keep colours, leave the output on the screen; as git(1) does."""


async def page(blocks: AsyncIterator[str]) -> None:
    """Print blocks of lines as they come; a user who quits the pager ends it."""
    first = []
    height = shutil.get_terminal_size().lines - 1
    async for block in blocks:
        first.append(block)
        if sum(each.count("\n") + 1 for each in first) > height:
            break
    else:
        if first:
            say("\n".join(first))
        return
    command = shlex.split(os.environ.get("PAGER") or _DEFAULT)
    try:
        # Blocking: a page is written while the user reads, and nothing else happens.
        pager = subprocess.Popen(  # noqa: ASYNC220
            command, stdin=subprocess.PIPE, text=True, env=_LESS | dict(os.environ)
        )
    except OSError:  # there is no such program: a terminal scrolls
        for block in first:
            say(block)
        async for block in blocks:
            say(block)
        return
    assert pager.stdin is not None
    try:
        for block in first:
            print(block, file=pager.stdin, flush=True)
        async for block in blocks:
            print(block, file=pager.stdin, flush=True)
        pager.stdin.close()
    except BrokenPipeError:  # the user has quit it
        pass
    finally:
        pager.wait()
