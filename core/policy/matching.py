"""Whether a rule matches a call; if not, which condition of the rule fails."""

from collections.abc import Iterable

from ..model.job import JobSpec
from .calls import Accounts, Call, Client, StartFacts
from .rules import EVERY, SWITCHES, Effect, Jobs, Rule, StartTerms

LIMITS = "limits"
"""The condition that fails last: all others of the rule match."""

_TERM = "TERM"
_DEFAULT_DIRECTORY = "/"


def mismatch(rule: Rule, client: Client, call: Call) -> str:
    """Return the first condition of a rule that fails for a call; empty if the rule matches all of it."""
    return mismatch_of_call(rule, call) if rule.clients.include(client) else "client"


def mismatch_of_call(rule: Rule, call: Call) -> str:
    """Return the same for a rule that is about the client."""
    if call.group not in rule.calls:
        return "calls"
    if rule.jobs is Jobs.OWN and not call.own:
        return "jobs"
    if call.start is not None:
        failed = _not_allowed if rule.effect is Effect.ALLOW else _not_denied
        return failed(rule.start, call.start)
    if call.changes is not None and rule.effect is Effect.ALLOW:
        return "" if rule.start.limits.admits(call.changes) else LIMITS
    return ""


def excess_of_call(rule: Rule, call: Call) -> str:
    """Return which limits of a call are above the maximum of a rule; empty if none is."""
    limits = call.changes if call.start is None else call.start.spec.limits
    return "" if limits is None else ", ".join(map(str, rule.start.limits.excesses(limits, "the rule")))


def _not_allowed(terms: StartTerms, start: StartFacts) -> str:  # noqa: PLR0911 - by condition
    """Return the first part of a start that a rule does not allow."""
    if failed := _command_not_allowed(terms, start):
        return failed
    spec = start.spec
    if not all(_variable_allowed(terms, name, value) for name, value in spec.env.items()):
        return "env"
    if spec.working_directory != _DEFAULT_DIRECTORY and not terms.directories.match(start.directory):
        return "directories"
    if failed := _account_not_allowed(terms, start.accounts):
        return failed
    if not all(terms.labels.match(name, value) for name, value in spec.labels.items()):
        return "labels"
    if not all(terms.ulimits.match(each.name) for each in spec.ulimits):
        return "ulimits"
    if not all(map(terms.secrets.match, start.secrets)):
        return "secrets"
    for name in _requested(spec):
        if not getattr(terms, name):
            return name
    return "" if terms.limits.admits(spec.limits) else LIMITS


def _command_not_allowed(terms: StartTerms, start: StartFacts) -> str:
    """Return what of the command a rule does not allow: the path, the arguments or who can change it."""
    commands = [each for each in terms.commands if each.matches_path(start.program.path)]
    if not commands:
        return "commands"
    if not any(each.matches_arguments(start.spec.args) for each in commands):
        return "args"
    return "unsafe_path" if start.program.unsafe and not terms.unsafe_path else ""


def _not_denied(terms: StartTerms, start: StartFacts) -> str:  # noqa: PLR0911, C901 - by condition
    """Return the first condition of a deny that a start does not meet."""
    spec = start.spec
    if terms.commands:
        names = (start.program.path, *start.program.names)
        commands = [each for each in terms.commands if any(map(each.matches_path, names))]
        if not commands:
            return "commands"
        if not any(each.matches_arguments(spec.args) for each in commands):
            return "args"
    if terms.env and not any(terms.env.match(name, value) for name, value in spec.env.items()):
        return "env"
    directories = (spec.working_directory, start.directory)
    if terms.directories and not any(map(terms.directories.match, directories)):
        return "directories"
    accounts = start.accounts
    uids = {accounts.users[name].uid for name in terms.users if name in accounts.users}
    if terms.users and accounts.job.uid not in uids:
        return "users"
    if terms.groups and accounts.job.all_groups.isdisjoint(_gids(terms.groups, accounts)):
        return "groups"
    if terms.labels and not any(terms.labels.match(name, value) for name, value in spec.labels.items()):
        return "labels"
    if terms.ulimits and not any(terms.ulimits.match(each.name) for each in spec.ulimits):
        return "ulimits"
    if terms.secrets and not any(map(terms.secrets.match, start.secrets)):
        return "secrets"
    requested = set(_requested(spec))
    for name in SWITCHES:
        if getattr(terms, name) and name not in requested:
            return name
    return ""


def _requested(spec: JobSpec) -> Iterable[str]:
    """Yield those of the switches that a start requests."""
    if spec.stdin:
        yield "stdin"
    if spec.terminal is not None:
        yield "terminal"
    if spec.new_privileges:
        yield "new_privileges"


def _variable_allowed(terms: StartTerms, name: str, value: str) -> bool:
    """Whether a variable is listed; a terminal needs TERM, whose value must be a name, not a path."""
    if terms.env.match(name, value):
        return True
    return name == _TERM and terms.terminal and "/" not in value


def _account_not_allowed(terms: StartTerms, accounts: Accounts) -> str:
    """Return which part of the user of a job is not allowed: it is compared as uid, gid and groups."""
    job = accounts.job
    if job == accounts.default:
        return ""
    listed = [accounts.default, *(accounts.users[name] for name in terms.users if name in accounts.users)]
    if EVERY in terms.users and job.uid not in {0, accounts.own}:
        listed.append(accounts.member)
    same = [each for each in listed if each.uid == job.uid]
    if not same:
        return "users"
    # EVERY never stands for the group of root.
    wanted = job.all_groups & {0} if EVERY in terms.groups else job.all_groups
    others = wanted - _gids(terms.groups, accounts)
    return "" if any(others <= each.all_groups for each in same) else "groups"


def _gids(names: Iterable[str], accounts: Accounts) -> set[int]:
    return {accounts.groups[name] for name in names if name in accounts.groups}
