"""Completion of jobs in the shell: their names and ids, from the server that the command would call."""

import asyncio
import shlex
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from ..client.errors import ClientError
from ..client.settings import ClientSettings
from ..core.model.job import JobStatus

_MOST = 100
"""Jobs to offer: the newest ones."""

_PATIENCE = 2.0
"""Seconds to wait for the server: a key press should not take longer."""


def jobs_beginning_with(text: str, context: click.Context) -> list[CompletionItem]:
    """Return the names and ids of jobs that begin with a text; none if the server does not answer."""
    given = {name: context.params.get(name) for name in ("server", "ca", "cert", "key", "context")}
    with suppress(ClientError, TimeoutError, OSError):
        settings = ClientSettings(**given, reconnect=0)
        return [
            CompletionItem(
                word, help=shlex.join([status.record.spec.command, *status.record.spec.args])[:60]
            )
            for status in asyncio.run(_newest(settings))
            for word in (status.record.spec.name, str(status.record.id))
            if word and word.startswith(text)
        ]
    return []


async def _newest(settings: ClientSettings) -> list[JobStatus]:
    found = []
    async with asyncio.timeout(_PATIENCE), settings.client() as client:
        async for status in client.jobs(newest_first=True):
            found.append(status)
            if len(found) == _MOST:
                break
    return found
