"""A policy from the tables of a TOML file; each error names the rule and the key.

The tables are ``[[rule]]`` and ``[[quota]]``; docs/how-to/policy.md describes their keys.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

from ..errors import InvalidJobSpec
from ..model.execution import DEFAULT_PATH
from ..model.limits import LimitBounds, ResourceLimits
from .calls import CallGroup
from .rules import (
    EVERY,
    NAMED_EXACTLY,
    SWITCHES,
    Clients,
    CommandPattern,
    Effect,
    Jobs,
    PairPatterns,
    PathPatterns,
    Patterns,
    Policy,
    Quota,
    Rule,
    StartTerms,
)

_ALL_CALLS = "all"
_LONGEST_PATH = 4096
_ANY_CLIENT = ("clients", "issuers", "roles")
_RULE = ("name", "effect", *_ANY_CLIENT, "calls", "jobs")
_START = ("commands", "env", "directories", "users", "groups", "labels", "ulimits", "secrets", *SWITCHES)
_ONLY_ALLOW = ("unsafe_path", "limits", "wrap")
_QUOTA = ("name", *_ANY_CLIENT, "running_jobs")

_Member = TypeVar("_Member", Effect, Jobs)
Table = Mapping[str, object]


class InvalidPolicy(Exception):
    """The policy cannot be used; the message names the rule and the key."""


@dataclass(frozen=True, slots=True)
class PolicyReader:
    """Reads policies.

    ``limits`` reads the table of limits of a rule and may raise ValueError; ``directory`` returns a
    directory without links, so that a rule may name a command through one, such as /bin/sh. ``roles``
    are those that a certificate can have.
    """

    limits: Callable[[object], LimitBounds]
    directory: Callable[[str], str]
    roles: frozenset[str]

    def read(self, tables: Table) -> Policy:
        """Return the policy; raise InvalidPolicy."""
        try:
            return self._policy(tables)
        except ValueError as error:
            raise InvalidPolicy(str(error)) from None

    def _policy(self, tables: Table) -> Policy:
        _check_keys(tables, ("path", "rule", "quota"))
        rules = self._read_all("rule", tables, self._rule)
        quotas = self._read_all("quota", tables, self._quota)
        return Policy(rules, quotas, _search_path(tables.get("path", DEFAULT_PATH)))

    def _read_all(
        self, kind: str, tables: Table, read: Callable[[Table, str], "_Read"]
    ) -> tuple["_Read", ...]:
        found = [
            self._read_one(f"{kind} {number}", table, read)
            for number, table in enumerate(_tables(tables, kind), 1)
        ]
        _check_unique([each.name for each in found])
        return tuple(found)

    def _read_one(self, about: str, table: Table, read: Callable[[Table, str], "_Read"]) -> "_Read":
        name = table.get("name", about)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{about}: name: write a string")
        try:
            return read(table, name)
        except ValueError as error:
            shown = about if name == about else f"{about} ({name!r})"
            raise ValueError(f"{shown}: {error}") from None

    def _rule(self, table: Table, name: str) -> Rule:
        _check_keys(table, (*_RULE, *_START, *_ONLY_ALLOW))
        effect = _member(table, "effect", Effect, Effect.ALLOW)
        calls = _calls(table)
        given = [key for key in (*_START, *_ONLY_ALLOW) if key in table]
        self._check_fit(effect, calls, given)
        default = Jobs.OWN if effect is Effect.ALLOW else Jobs.ALL
        return Rule(
            name,
            effect,
            self._clients(table),
            calls,
            _member(table, "jobs", Jobs, default),
            self._start(table, effect),
        )

    def _check_fit(self, effect: Effect, calls: frozenset[CallGroup], given: Sequence[str]) -> None:
        """Reject keys that would have no effect, or another one than it seems."""
        if effect is Effect.DENY:
            if misplaced := [key for key in given if key in _ONLY_ALLOW]:
                raise ValueError(f"{misplaced[0]}: only a rule that allows has it")
            if given and calls != {CallGroup.START}:
                raise ValueError(f'{given[0]}: a deny with it denies starts; write calls = ["start"]')
            return
        if CallGroup.START in calls and "commands" not in given:
            raise ValueError('commands: list the commands, or write commands = ["*"] for every command')
        if CallGroup.START not in calls and (extra := [key for key in given if key != "limits"]):
            raise ValueError(f'{extra[0]}: the rule does not allow "start"')

    def _clients(self, table: Table) -> Clients:
        roles = frozenset(_texts(table, "roles"))
        if unknown := roles - self.roles:
            raise ValueError(
                f"roles: unknown role {min(unknown)!r}; valid: {', '.join(sorted(self.roles))}"
            )
        return Clients(_patterns(table, "clients", Patterns), _patterns(table, "issuers", Patterns), roles)

    def _start(self, table: Table, effect: Effect) -> StartTerms:
        allow = effect is Effect.ALLOW
        users, groups = _texts(table, "users"), _texts(table, "groups")
        if not allow and EVERY in (*users, *groups):
            raise ValueError('users and groups: to deny every user, leave them out; "*" is not root')
        return StartTerms(
            commands=self._commands(table),
            env=_pairs(table, "env", NAMED_EXACTLY if allow else None),
            directories=_patterns(table, "directories", PathPatterns),
            users=users,
            groups=groups,
            labels=_pairs(table, "labels"),
            ulimits=_patterns(table, "ulimits", Patterns),
            secrets=_patterns(table, "secrets", Patterns),
            **{key: _switch(table, key) for key in (*SWITCHES, "unsafe_path")},
            limits=self._limits(table),
            wrap=self._wrap(table),
        )

    def _limits(self, table: Table) -> LimitBounds:
        if "limits" not in table:
            return LimitBounds()
        try:
            limits = self.limits(table["limits"])
            limits.apply(ResourceLimits())  # the defaults must be within the maximum
        except (ValueError, InvalidJobSpec) as error:
            raise ValueError(f"limits: {error}") from None
        return limits

    def _commands(self, table: Table) -> tuple[CommandPattern, ...]:
        entries = table.get("commands", [])
        if not isinstance(entries, list) or ("commands" in table and not entries):
            raise ValueError("commands: write a list with at least one command")
        return tuple(self._command(each) for each in entries)

    def _command(self, entry: object) -> CommandPattern:
        table = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("path"), str):
            raise ValueError(  # noqa: TRY004 - one error for everything in a file
                'commands: write "/path" or { path = "/path", args = ["..."] }'
            )
        try:
            _check_keys(table, ("path", "args"))
            args = _texts(table, "args") if "args" in table else None
            return CommandPattern(self._without_links(table["path"]), args)
        except ValueError as error:
            raise ValueError(f"commands: {error}") from None

    def _without_links(self, path: str) -> str:
        """Return the path of a command as programs are matched: its directory without links."""
        directory, slash, name = path.rpartition("/")
        if not directory or "*" in directory or "\\" in directory:
            return path
        if len(path) > _LONGEST_PATH:  # to resolve it would take minutes
            raise ValueError(f"no path has more than {_LONGEST_PATH} characters")
        return f"{self.directory(directory).rstrip('/')}{slash}{name}"

    def _wrap(self, table: Table) -> tuple[str, ...]:
        wrap = _texts(table, "wrap")
        if "wrap" in table and not (wrap and wrap[0].startswith("/")):
            raise ValueError("wrap: begin with the absolute path of a program")
        return wrap

    def _quota(self, table: Table, name: str) -> Quota:
        _check_keys(table, _QUOTA)
        most = table.get("running_jobs")
        if not isinstance(most, int) or isinstance(most, bool) or most < 0:
            raise ValueError("running_jobs: write a number, 0 or more")
        return Quota(name, self._clients(table), most)


_Read = TypeVar("_Read", Rule, Quota)


def _tables(tables: Table, key: str) -> Sequence[Table]:
    found = tables.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{key}: write [[{key}]]")
    return found


def _check_keys(table: Table, known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; valid: {', '.join(known)}")


def _check_unique(names: Sequence[str]) -> None:
    name, times = max(Counter(names).items(), key=itemgetter(1), default=("", 0))
    if times > 1:
        raise ValueError(f"two have the name {name!r}")


def _texts(table: Table, key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{key}: write a list of strings")
    return tuple(found)


_Patterns = TypeVar("_Patterns", Patterns, PathPatterns)


def _patterns(table: Table, key: str, kind: type[_Patterns]) -> _Patterns:
    texts = _texts(table, key)
    if key in table and not texts:  # in a condition an empty list would mean: any
        raise ValueError(f"{key}: the list is empty; leave it out")
    try:
        return kind(texts)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _pairs(table: Table, key: str, exact: Patterns | None = None) -> PairPatterns:
    try:
        return PairPatterns(_texts(table, key), exact=exact)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _switch(table: Table, key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{key}: write true or false")  # noqa: TRY004 - one error for everything in a file
    return value


def _member(table: Table, key: str, kind: type[_Member], default: _Member) -> _Member:
    value = table.get(key, default.value)
    for each in kind:
        if each.value == value:
            return each
    given = f", not {value!r}" if isinstance(value, str) else ""
    raise ValueError(f"{key}: write {' or '.join(repr(each.value) for each in kind)}{given}")


def _calls(table: Table) -> frozenset[CallGroup]:
    names = _texts(table, "calls")
    valid = [each.value for each in CallGroup]
    if not names:
        raise ValueError(f'calls: list groups of calls: {", ".join(valid)}, or "all"')
    if names == (_ALL_CALLS,):
        return frozenset(CallGroup)
    for name in names:
        if name not in valid:
            raise ValueError(f"calls: unknown group {name!r}; valid: {', '.join(valid)}")
    return frozenset(map(CallGroup, names))


def _search_path(value: object) -> str:
    if not isinstance(value, str) or not all(each.startswith("/") for each in value.split(":")):
        raise ValueError("path: write absolute directories, separated by colons")
    return value
