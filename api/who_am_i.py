"""What WhoAmI reports: who a client is to the server, and which calls it may make."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..proto import worker as proto


@dataclass(frozen=True, slots=True)
class AllowedCalls:
    """A group of calls of which a client may make some: on its own jobs, on those of others."""

    group: str
    own: bool
    others: bool


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """``policy``: the server has one. ``policy_trouble``: why the one read last is not in force.

    ``server_version`` is empty in the server itself, and if it reports none.
    """

    name: str
    issuer: str
    roles: Sequence[str]
    policy: bool
    calls: Sequence[AllowedCalls]
    policy_trouble: str = ""
    server_version: str = ""


def to_message(found: WhoAmI) -> proto.WhoAmIResponse:
    """Return it as a reply."""
    return proto.WhoAmIResponse(
        name=found.name,
        issuer=found.issuer,
        roles=list(found.roles),
        policy=found.policy,
        calls=[
            proto.AllowedCalls(group=each.group, own=each.own, others=each.others) for each in found.calls
        ],
        policy_trouble=found.policy_trouble,
        server_version=installed_version(),
    )


def from_message(reply: proto.WhoAmIResponse) -> WhoAmI:
    """Return what a server has replied."""
    return WhoAmI(
        reply.name,
        reply.issuer,
        tuple(reply.roles),
        reply.policy,
        tuple(AllowedCalls(each.group, each.own, each.others) for each in reply.calls),
        reply.policy_trouble,
        reply.server_version,
    )


@cache
def installed_version() -> str:
    """Return the version of this installation."""
    from importlib.metadata import version  # noqa: PLC0415 - few commands need it

    return version("systemd-wrapper")
