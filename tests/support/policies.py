"""Policies, clients and calls for tests."""

import tomllib
from collections.abc import Mapping
from typing import Any

from worker.cli.options.limit_bounds import read_rule_limits
from worker.core.model.job import JobSpec
from worker.core.policy.calls import Accounts, Call, CallGroup, Client, Ids, Program, StartFacts
from worker.core.policy.reading import PolicyReader
from worker.core.policy.rules import Policy

ROLES = frozenset({"reader", "writer"})
USERS = {
    "root": Ids(0, 0),
    "build": Ids(1000, 1000, frozenset({1000, 50})),
    "deploy": Ids(1001, 1001),
    "nobody": Ids(65534, 65534),
}
GROUPS = {"root": 0, "staff": 50, "docker": 999}
NOBODY = USERS["nobody"]


def read(tables: str | Mapping[str, object]) -> Policy:
    """Return a policy from TOML or from its tables; directories have no links."""
    found = tomllib.loads(tables) if isinstance(tables, str) else tables
    return PolicyReader(read_rule_limits, lambda directory: directory, ROLES).read(found)


def writer(name: str = "ci", issuer: str = "CN=ca") -> Client:
    """Return a client that is a writer."""
    return Client(name, issuer, frozenset({"writer"}))


def start(
    command: str,
    *args: str,
    user: Ids = NOBODY,
    member: Ids | None = None,
    names: frozenset[str] = frozenset(),
    unsafe: str = "",
    directory: str | None = None,
    own_uid: int = 0,
    secrets: frozenset[str] = frozenset(),
    **spec: Any,
) -> Call:
    """Return the call that starts a command, which needs no lookup."""
    facts = StartFacts(
        JobSpec(command, args, **spec),
        Program(command, names, unsafe),
        directory if directory is not None else spec.get("working_directory", "/"),
        Accounts(user, member or user, NOBODY, own_uid, USERS, GROUPS),
        secrets,
    )
    return Call(CallGroup.START, start=facts)
