"""Why a policy allows or denies a call, as text."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ...core.policy.calls import Call, CallGroup, Client, Ids, StartFacts
from ...core.policy.decision import Decision, Explanation
from ...core.policy.rules import CommandPattern, Rule
from ..options.limit_words import in_options
from .resources import limits_line


def explanation(
    client: Client, call: Call, owner: str, decision: Decision, rules: Sequence[Explanation]
) -> Iterator[str]:
    """Yield the decision, what would be executed, and for each rule whether it matches or why not.

    ``owner`` is that of the job of the call.
    """
    yield f"{'allowed' if decision.allowed else 'denied'}: {in_options(decision.reason)}"
    yield f"client: {_client(client)}"
    if call.start is not None:
        yield from _execution(call.start)
    elif call.group is not CallGroup.ADMIN:
        yield f"call: {call.group}, {_job_of(owner)}"
    if call.start is not None and decision.allowed and decision.rule is not None:
        yield from _terms(decision.rule)
    for each in rules:
        yield f"rule {each.rule.name!r} ({each.rule.effect.value}): {_why(each, client, call, owner)}"


def _execution(start: StartFacts) -> Iterator[str]:
    found = "there is no such file" if start.program.missing else start.program.unsafe or "safe"
    yield f"command: {start.program.path} ({found})"
    yield f"user: {_ids(start.accounts.job)}"


def _terms(rule: Rule) -> Iterator[str]:
    terms = rule.start
    if terms.wrap:
        yield f"wrap: {shlex.join(terms.wrap)}"
    for name, limits in (("default", terms.limits.default), ("maximum", terms.limits.maximum)):
        if line := limits_line(limits):
            yield f"limits.{name}: {line}"


def _why(each: Explanation, client: Client, call: Call, owner: str) -> str:
    failed = each.failed
    if not failed:
        return "matches"
    requested = _requested(failed, client, call, owner)
    listed = _LISTED[failed](each.rule) if failed in _LISTED else ""
    return f"does not match: {failed}: {requested or 'none'}; the rule has {listed or 'none'}"


def _requested(failed: str, client: Client, call: Call, owner: str) -> str:
    match failed:
        case "client":
            return _client(client)
        case "calls":
            return call.group
        case "jobs":
            return _job_of(owner)
        case "limits" if call.changes is not None:
            return limits_line(call.changes)
    start = call.start
    return _OF_START[failed](start) if start is not None and failed in _OF_START else "requested"


def _job_of(owner: str) -> str:
    return f"on a job of {owner!r}"


def _client(client: Client) -> str:
    roles = ", ".join(sorted(client.roles)) or "none"
    return f"{client.name!r}, issuer {client.issuer!r}, roles {roles}"


def _conditions(rule: Rule) -> str:
    clients = rule.clients
    parts = {
        "clients": clients.names.texts,
        "issuers": clients.issuers.texts,
        "roles": sorted(clients.roles),
    }
    return "; ".join(f"{name} {', '.join(texts)}" for name, texts in parts.items() if texts)


def _arguments(command: CommandPattern) -> str:
    return "any" if command.args is None else repr(list(command.args))


def _pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in pairs.items())


def _ids(ids: Ids) -> str:
    if ids.uid < 0:
        return "unknown"
    groups: Iterable[int] = sorted(ids.groups - {ids.gid})
    more = f", groups {', '.join(map(str, groups))}" if ids.groups - {ids.gid} else ""
    return f"uid {ids.uid}, gid {ids.gid}{more}"


_OF_START: Mapping[str, Callable[[StartFacts], str]] = {
    "commands": lambda start: start.program.path,
    "args": lambda start: shlex.join(start.spec.args) or "no arguments",
    "unsafe_path": lambda start: start.program.unsafe,
    "env": lambda start: _pairs(start.spec.env),
    "directories": lambda start: start.directory,
    "users": lambda start: _ids(start.accounts.job),
    "groups": lambda start: _ids(start.accounts.job),
    "labels": lambda start: _pairs(start.spec.labels),
    "ulimits": lambda start: ", ".join(map(str, start.spec.ulimits)),
    "secrets": lambda start: ", ".join(sorted(start.secrets)),
    "limits": lambda start: limits_line(start.spec.limits) or "none",
}
_LISTED: Mapping[str, Callable[[Rule], str]] = {
    "client": _conditions,
    "calls": lambda rule: ", ".join(sorted(rule.calls)),
    "jobs": lambda rule: rule.jobs.value,
    "commands": lambda rule: ", ".join(each.path for each in rule.start.commands),
    "args": lambda rule: " or ".join(map(_arguments, rule.start.commands)),
    "env": lambda rule: ", ".join(rule.start.env.texts),
    "directories": lambda rule: ", ".join(rule.start.directories.texts),
    "users": lambda rule: ", ".join(rule.start.users),
    "groups": lambda rule: ", ".join(rule.start.groups),
    "labels": lambda rule: ", ".join(rule.start.labels.texts),
    "ulimits": lambda rule: ", ".join(rule.start.ulimits.texts),
    "secrets": lambda rule: ", ".join(rule.start.secrets.texts),
    "limits": lambda rule: f"at most {limits_line(rule.start.limits.maximum)}",
}
