"""The options of the last `worker up` in a home: the next one says which of them it lacks.

A server without the policy of the last one lets each client do what its role allows.
"""

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .home import Home
from .options.parameters import option_name
from .private_files import replace_private
from .server_address import DEFAULT_LISTEN
from .settings import ServerSettings


def kept_options(settings: ServerSettings, config: Path | None) -> dict[str, str]:
    """Return the options that decide who reaches a server and what jobs may do, unless at the default."""
    values = {
        "config": config,
        "listen": None if settings.listen == DEFAULT_LISTEN else settings.listen,
        "policy": settings.policy,
        "default_user": settings.default_user,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def record(home: Home, options: Mapping[str, str]) -> None:
    """Keep the options of this `worker up`. A full disk keeps no server from its start."""
    with suppress(OSError):
        replace_private(home.last_up, json.dumps(options) + "\n")


def dropped(home: Home, options: Mapping[str, str]) -> str:
    """Return what to report about options that the last `worker up` had and this one has not; or empty."""
    try:
        last = json.loads(home.last_up.read_text())
    except (OSError, ValueError):
        return ""
    missing = [
        f"{option_name(name)} {shlex.quote(str(value))}"
        for name, value in (last.items() if isinstance(last, dict) else ())
        if name not in options
    ]
    if not missing:
        return ""
    return (
        f"the last `worker up` had {' '.join(missing)}, and this one has not; for a server with the same "
        f"options: `worker down`, then `worker up {' '.join(missing)}`"
    )
