"""`worker ping`: whether the server answers, and how fast."""

from time import perf_counter

from ...client.client import Client
from ..client_settings import ClientSettings, call, client_options
from ..help_page import command
from ..terminal.console import printable, say
from ..terminal.printed_objects import PingObject
from ..terminal.show import format_option, show_json

_CALLS = 5


@command(examples=("worker ping", "worker ping --context build"))
@format_option("json", prints=PingObject)
@client_options
def ping(settings: ClientSettings, form: str | None) -> None:
    """Connect to the server, and print how long that takes.

    Also prints how long a call takes, and the version of the server. Exits with 1 if it does not answer.
    """
    connected, times, version = call(settings, _measure)
    fastest = min(times)
    if form == "json":
        show_json(
            PingObject(
                server=str(settings.address),
                version=version or None,
                connect_ms=round(connected * 1000, 2),
                call_ms=round(fastest * 1000, 2),
            )
        )
        return
    of_version = f", version {printable(version)}" if version else ""
    say(
        f"{settings.address} answers: connected in {connected * 1000:.0f} ms, "
        f"a call takes {fastest * 1000:.1f} ms{of_version}"
    )


async def _measure(client: Client) -> tuple[float, list[float], str]:
    """Return the seconds for the first call, which connects, and for others, and the server's version."""
    begun = perf_counter()
    version = (await client.who_am_i()).server_version
    connected = perf_counter() - begun
    times = []
    for _ in range(_CALLS):
        begun = perf_counter()
        await client.who_am_i()
        times.append(perf_counter() - begun)
    return connected, times, version
