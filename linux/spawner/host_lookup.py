"""What the policy sees of this host: commands and users.

What was found is kept for a moment, where only root can change it: a start then needs no system call and
no other thread.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from ...core.errors import InvalidJobSpec
from ...core.model.job import JobSpec
from ...core.policy.calls import Accounts, Ids, Program, StartFacts
from ...core.policy.rules import Policy
from ..kernel.path_walk import PathWalk
from .program_lookup import find_program
from .users import account, group_id

_NO_ID = -1
_UNKNOWN = Ids(_NO_ID, _NO_ID)
"""A user that does not exist: the spawner rejects it, with the reason."""

_KEPT = 10.0
"""Seconds: NSS may use the network. A new policy begins without anything."""

_MOST_KEPT = 1000

_ROOT = "/"


class HostLookup:
    """A Lookup of the policy. ``default_user`` is that of jobs without a user."""

    def __init__(self, default_user: str | None = None) -> None:
        self._default_user = default_user
        self._kept: _Kept | None = None

    def facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        # Several threads look up at once, maybe for two policies: each uses one object to the end.
        kept = self._kept
        if kept is None or kept.policy is not policy:
            kept = self._kept = _Kept(policy, _KeptAccounts(policy, self._default_user))
        elif not kept.accounts.are_recent:
            kept.accounts = _KeptAccounts(policy, self._default_user)
        command = spec.command
        program = find_program(command, spec.working_directory, policy.path)
        if command.startswith("/") or "/" not in command:
            kept.programs.keep(command, program)
        directory = _without_links(spec.working_directory)
        return StartFacts(spec, program, directory, kept.accounts.of(spec.user))

    def known_facts(self, spec: JobSpec, policy: Policy) -> StartFacts | None:
        kept = self._kept
        if kept is None or kept.policy is not policy or not kept.accounts.are_recent:
            return None
        if spec.working_directory != _ROOT:
            return None
        program, accounts = kept.programs.get(spec.command), kept.accounts.known(spec.user)
        if program is None or accounts is None:
            return None
        return StartFacts(spec, program, _ROOT, accounts)

    def program(self, path: str) -> Program:
        kept = self._kept
        program = find_program(path, _ROOT, "")
        if kept is not None:
            kept.programs.keep(path, program)
        return program

    def known_program(self, path: str) -> Program | None:
        return None if self._kept is None else self._kept.programs.get(path)


def _without_links(directory: str) -> str:
    """Return the path of a directory without links.

    One that cannot be followed, for example because it does not exist, is taken as it is written: a job
    follows no link there, so that its start fails.
    """
    try:
        return PathWalk().follow(directory)
    except OSError:
        return os.path.normpath(directory)


def existing_users(names: Iterable[str]) -> dict[str, Ids]:
    """Return those of the users that exist, written as for a job."""
    return {name: ids for name in names if (ids := _ids(name)) is not None}


class _KeptPrograms:
    """Programs, each kept for a moment if only root can change what it is."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Program]] = {}

    def get(self, command: str) -> Program | None:
        known = self._known.get(command)
        return None if known is None or known[0] <= time.monotonic() else known[1]

    def keep(self, command: str, program: Program) -> None:
        if program.missing or program.unsafe:
            return
        if len(self._known) >= _MOST_KEPT:  # clients choose what is looked up
            self._known.clear()
        self._known[command] = (time.monotonic() + _KEPT, program)


class _KeptAccounts:
    """Users and groups, all looked up in one moment; a user of a job that does not exist is not kept."""

    def __init__(self, policy: Policy, default_user: str | None) -> None:
        self._until = time.monotonic() + _KEPT
        self._ids: dict[str, Ids] = {}
        self._of: dict[str | None, Accounts] = {}
        self._users = {name: ids for name in policy.user_names if (ids := self._user(name)) is not None}
        self._groups = _gids(policy.group_names)
        self._default = _own() if default_user is None else self._user(default_user) or _UNKNOWN

    @property
    def are_recent(self) -> bool:
        """Whether they were looked up a moment ago."""
        return time.monotonic() < self._until

    def known(self, user: str | None) -> Accounts | None:
        """Return the accounts for a user as written for a job, if they were looked up."""
        return self._of.get(user)

    def of(self, user: str | None) -> Accounts:
        """Return the accounts for a user as written for a job."""
        job = [self._user(each) for each in _users_of(user)] or [self._default]
        first, last = job[0] or _UNKNOWN, job[-1] or _UNKNOWN
        accounts = Accounts(first, last, self._default, os.geteuid(), self._users, self._groups)
        if _UNKNOWN not in (first, last):
            if len(self._of) >= _MOST_KEPT:
                self._of.clear()
            self._of[user] = accounts
        return accounts

    def _user(self, name: str) -> Ids | None:
        """Return a user as written for a job, None if it does not exist."""
        ids = self._ids.get(name)
        if ids is None and (ids := _ids(name)) is not None:
            if len(self._ids) >= _MOST_KEPT:
                self._ids.clear()
            self._ids[name] = ids
        return ids


@dataclass(slots=True)
class _Kept:
    """What was found for starts under one policy."""

    policy: Policy
    accounts: _KeptAccounts
    programs: _KeptPrograms = field(default_factory=_KeptPrograms)


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
        with suppress(InvalidJobSpec):
            found[name] = group_id(name)
    return found
