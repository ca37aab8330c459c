"""What the policy sees of this host: commands and users.

What was found is kept for a moment, where only root can change it: a start then needs no system call and
no other thread.
"""

import grp
import os
import time
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Generic, TypeVar

from ...core.errors import InvalidJobSpec
from ...core.model.job import JobSpec
from ...core.policy.calls import Accounts, Ids, Program, StartFacts
from ...core.policy.rules import Policy
from .program_lookup import find_program
from .users import account

_NO_ID = -1
_UNKNOWN = Ids(_NO_ID, _NO_ID)
"""A user that does not exist: the spawner rejects it, with the reason."""

_KEPT = 10.0
"""Seconds: NSS may use the network. A new policy begins without anything."""

_MOST_KEPT = 1000

_ROOT = "/"

_Named = tuple[dict[str, Ids], dict[str, int]]
"""The users and groups that the policy names and that exist."""

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class HostLookup:
    """A Lookup of the policy. ``default_user`` is that of jobs without a user."""

    def __init__(self, default_user: str | None = None) -> None:
        self._default_user = default_user
        self._kept = _KeptForPolicy(Policy())

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        # Several threads look up at once, maybe for two policies: each uses one object to the end.
        kept = self._kept
        if kept.policy is not policy:
            kept = self._kept = _KeptForPolicy(policy)
        command = spec.command
        program = find_program(command, spec.working_directory, policy.path)
        relative = "/" in command and not command.startswith("/")
        if not (program.missing or program.unsafe or relative):
            kept.programs.keep(command, program)
        users = {name: ids for name in policy.user_names if (ids := kept.user(name)) is not None}
        named = users, _gids(policy.group_names)
        kept.named.keep(None, named)
        default = _own() if self._default_user is None else kept.user(self._default_user)
        job = [kept.user(each) or _UNKNOWN for each in _users_of(spec.user)]
        directory = os.path.realpath(spec.working_directory)
        return StartFacts(spec, program, directory, _accounts(job, default or _UNKNOWN, named))

    def known_facts(self, spec: JobSpec, policy: Policy) -> StartFacts | None:
        kept = self._kept
        if policy is not kept.policy or spec.working_directory != _ROOT:
            return None
        program, named = kept.programs.get(spec.command), kept.named.get(None)
        default = _own() if self._default_user is None else kept.users.get(self._default_user)
        if program is None or named is None or default is None:
            return None
        job = []
        for user in _users_of(spec.user):
            ids = kept.users.get(user)
            if ids is None:
                return None
            job.append(ids)
        return StartFacts(spec, program, _ROOT, _accounts(job, default, named))

    def program(self, path: str) -> Program:
        return find_program(path, "/", "")


def existing_users(names: Iterable[str]) -> dict[str, Ids]:
    """Return those of the users that exist, written as for a job."""
    return {name: ids for name in names if (ids := _ids(name)) is not None}


class _Kept(Generic[_Key, _Value]):
    """Results of lookups, each kept for a moment."""

    def __init__(self) -> None:
        self._known: dict[_Key, tuple[float, _Value]] = {}

    def get(self, key: _Key) -> _Value | None:
        known = self._known.get(key)
        return None if known is None or known[0] <= time.monotonic() else known[1]

    def keep(self, key: _Key, value: _Value) -> None:
        if len(self._known) >= _MOST_KEPT:  # clients choose what is looked up
            self._known.clear()
        self._known[key] = (time.monotonic() + _KEPT, value)


class _KeptForPolicy:
    """What was found for starts under one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.programs: _Kept[str, Program] = _Kept()
        self.users: _Kept[str, Ids] = _Kept()
        self.named: _Kept[None, _Named] = _Kept()

    def user(self, name: str) -> Ids | None:
        """Return a user as written for a job, None if it does not exist."""
        ids = self.users.get(name)
        if ids is None and (ids := _ids(name)) is not None:
            self.users.keep(name, ids)
        return ids


def _accounts(job: list[Ids], default: Ids, named: _Named) -> Accounts:
    """Return the accounts; ``job`` is the user of the job and, after that, the same without a group."""
    users, groups = named
    first, last = (job[0], job[-1]) if job else (default, default)
    return Accounts(first, last, default, os.geteuid(), users, groups)


def _users_of(user: str | None) -> tuple[str, ...]:
    """Return a user as written for a job, and without its group."""
    if user is None:
        return ()
    name, colon, _ = user.partition(":")
    return (user, name) if colon else (user,)


def _ids(user: str) -> Ids | None:
    try:
        found = account(user)
    except InvalidJobSpec:
        return None
    if found.uid is None or found.gid is None:
        return _own()
    return Ids(found.uid, found.gid, frozenset(found.groups))


def _own() -> Ids:
    return Ids(os.geteuid(), os.getegid(), frozenset(os.getgroups()))


def _gids(names: Iterable[str]) -> dict[str, int]:
    """Return the gids of those groups that exist."""
    found = {}
    for name in names:
        with suppress(KeyError):
            number = name.isascii() and name.isdecimal()
            found[name] = int(name) if number else grp.getgrnam(name).gr_gid
    return found
