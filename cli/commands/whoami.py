"""`worker whoami`: who the caller is to the server, and what the caller may do."""

from dataclasses import asdict
from typing import cast

from ...api.who_am_i import WhoAmI
from ..client_settings import ClientSettings, call, client_options
from ..help_page import command
from ..terminal.allowed_calls import jobs_of
from ..terminal.console import printable, say
from ..terminal.printed_objects import WhoAmIObject
from ..terminal.show import format_option, show_json


@command(examples=("worker whoami", "worker whoami -o json"))
@format_option("json", prints=WhoAmIObject)
@client_options
def whoami(settings: ClientSettings, form: str | None) -> None:
    """Print who you are to the server, and what you may do."""
    found = call(settings, lambda client: client.who_am_i())
    if form == "json":
        show_json(cast("WhoAmIObject", asdict(found)))
    else:
        say("\n".join(lines(found)))


def lines(found: WhoAmI) -> list[str]:
    """Return the facts, one for each line."""
    facts = [
        ("Name", found.name or "none: the certificate grants nothing"),
        ("Issuer", found.issuer),
        ("Roles", ", ".join(found.roles) or "none"),
        ("Policy", "yes" if found.policy else "none: the roles decide"),
        *((f"  {each.group}", jobs_of(each, policy=found.policy)) for each in found.calls),
        *([("Trouble", found.policy_trouble)] if found.policy_trouble else []),
    ]
    return [f"{name + ':':<11}{printable(text)}" for name, text in facts]
