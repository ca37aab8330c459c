"""`worker version`: the versions of this command and of the server."""

from ...api.who_am_i import installed_version
from ..client_settings import ClientSettings, call, client_options
from ..help_page import command
from ..terminal.console import Failure, note, printable, say
from ..terminal.printed_objects import VersionObject
from ..terminal.show import format_option, show_json


@command(examples=("worker version", "worker version -o json"))
@format_option("json", prints=VersionObject)
@client_options
def version(settings: ClientSettings, form: str | None) -> None:
    """Print the versions of this command and of the server.

    A server that cannot be reached is no error.
    """
    server, trouble = None, ""
    try:
        server = call(settings, lambda client: client.who_am_i()).server_version or "unknown"
    except Failure as error:
        trouble = str(error)
    if form == "json":
        show_json(VersionObject(client=installed_version(), server=server))
        return
    say(f"Client: {installed_version()}")
    if server is None:
        note(printable(trouble))
    else:
        say(f"Server: {printable(server)}")
