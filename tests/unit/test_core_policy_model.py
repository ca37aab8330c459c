"""The decision of a policy beside a naive model of it, and in every order of its rules."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.core.policy.calls import Accounts, Call, CallGroup, Client, Ids
from worker.core.policy.decision import decide, explain, rules_of

from ..support.policies import GROUPS, NOBODY, USERS, read, start

NAMES = ("a", "b")
COMMANDS = ("/bin/x", "/bin/y")
ARGS = ("-v", "p", "q")
VARIABLES = ("LD_A", "M", "MN")
DIRECTORIES = ("/srv", "/srv/a")
LABELS = ("t", "u")
SECRETS = ("s", "sp")
GROUPS_OF_CALLS = [each.value for each in CallGroup]

Table = Mapping[str, Any]


def some(values: Sequence[str], most: int = 3) -> st.SearchStrategy[list[str]]:
    """Return lists without repetition."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def maybe(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables that have some of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


COMMAND = st.one_of(
    st.sampled_from((*COMMANDS, "/bin/*", "*")),
    st.fixed_dictionaries(
        {"path": st.sampled_from((*COMMANDS, "/bin/*", "*"))},
        optional={
            "args": st.builds(
                lambda args, rest: args + rest,
                st.lists(st.sampled_from((*ARGS, "*")), max_size=2),
                st.sampled_from(([], ["..."])),
            )
        },
    ),
)
CLIENT = maybe(
    clients=some(("a", "b", "*")), issuers=some(("CN=1", "CN=2")), roles=some(("reader", "writer"))
)
START = {
    "env": some((*VARIABLES, "M*", "*", "M=p", "LD_*")),
    "directories": some((*DIRECTORIES, "/srv/*", "/*")),
    "labels": some((*LABELS, "*", "t=p")),
    "secrets": some((*SECRETS, "s*")),
    "stdin": st.just(True),
}
ALLOW = st.builds(
    lambda client, start, jobs, calls, commands: {
        **client,
        **start,
        **jobs,
        "calls": list({*calls, "start"}),
        "commands": commands,
    },
    CLIENT,
    maybe(**START, users=some(("root", "build", "*")), groups=some(("docker", "*"))),
    maybe(jobs=st.sampled_from(("own", "all"))),
    some(GROUPS_OF_CALLS),
    st.lists(COMMAND, min_size=1, max_size=2),
)
READ = st.builds(
    lambda client, jobs, calls: {**client, **jobs, "calls": calls},
    CLIENT,
    maybe(jobs=st.sampled_from(("own", "all"))),
    some([each for each in GROUPS_OF_CALLS if each != "start"]),
)
DENY_START = st.builds(
    lambda client, start: {**client, **start, "effect": "deny", "calls": ["start"]},
    CLIENT,
    maybe(
        **START,
        users=some(("root", "build")),
        groups=some(("docker", "staff")),
        commands=st.lists(COMMAND, min_size=1, max_size=2),
    ),
)
DENY = READ.map(lambda table: {**table, "effect": "deny"})
RULES = st.lists(st.one_of(ALLOW, ALLOW, READ, DENY_START, DENY), max_size=6)
CLIENTS = st.builds(
    Client,
    st.sampled_from(NAMES),
    st.sampled_from(("CN=1", "CN=2")),
    st.sampled_from((frozenset({"reader"}), frozenset({"writer"}))),
)
ACCOUNTS = (NOBODY, USERS["root"], USERS["build"], Ids(1000, 999), Ids(1001, 1001), Ids(65534, 0))
STARTS = st.builds(
    lambda command, args, user, names, directory, env, labels, secrets, stdin: start(
        command,
        *args,
        user=user,
        member=USERS["build"] if user.uid == 1000 else Ids(user.uid, user.uid),
        names=names,
        working_directory=directory,
        env=env,
        labels=labels,
        secrets=secrets,
        stdin=stdin,
    ),
    st.sampled_from(COMMANDS),
    st.lists(st.sampled_from((*ARGS, "p/q")), max_size=3),
    st.sampled_from(ACCOUNTS),
    st.sampled_from((frozenset[str](), frozenset(COMMANDS))),
    st.sampled_from(("/", *DIRECTORIES)),
    st.dictionaries(st.sampled_from(VARIABLES), st.sampled_from(("p", "q")), max_size=2),
    st.dictionaries(st.sampled_from(LABELS), st.sampled_from(("p", "q")), max_size=2),
    st.frozensets(st.sampled_from(SECRETS)),
    st.booleans(),
)
CALLS = st.one_of(
    STARTS,
    STARTS,
    st.builds(
        Call, st.sampled_from([each for each in CallGroup if each is not CallGroup.START]), st.booleans()
    ),
)


# --- the model: no shared code, no cleverness, and its own matching of the few patterns above


def fits(pattern: str, text: str, *, path: bool = True) -> bool:
    """Match a pattern of which at most the end is a star."""
    if not pattern.endswith("*"):
        return pattern == text
    rest = text.removeprefix(pattern[:-1])
    if not text.startswith(pattern[:-1]):
        return False
    return not path or (
        "/" not in rest and not text.startswith("-") and not (pattern[-2:] in {"/*", "*"} and not rest)
    )


def fits_pair(pattern: str, name: str, value: str, *, exact: bool) -> bool:
    """Match a variable or a label; LD_A is one of those that must be named exactly."""
    wanted, equals, wanted_value = pattern.partition("=")
    if exact and "*" in wanted and name.startswith("LD_"):
        return False
    return fits(wanted, name, path=False) and (not equals or wanted_value == value)


def fits_command(entry: Any, paths: Sequence[str], args: Sequence[str]) -> bool:
    """Match a command with its arguments."""
    table = {"path": entry} if isinstance(entry, str) else entry
    if not any(table["path"] == "*" or fits(table["path"], path) for path in paths):
        return False
    wanted = table.get("args", ["..."])
    if wanted[-1:] == ["..."]:
        wanted = wanted[:-1]
        args = args[: len(wanted)]
    return len(wanted) == len(args) and all(
        fits(each, text) for each, text in zip(wanted, args, strict=True)
    )


def fits_secret(patterns: Sequence[str], name: str) -> bool:
    """Match the name of a secret."""
    return any(fits(each, name, path=False) for each in patterns)


def fits_client(table: Table, client: Client) -> bool:
    """Match who calls."""
    return (
        any(fits(each, client.name, path=False) for each in table.get("clients", ["*"]))
        and client.issuer in table.get("issuers", [client.issuer])
        and bool(set(table.get("roles", client.roles)) & client.roles)
    )


def model_allows_start(table: Table, call: Call) -> bool:
    """Whether an allow covers all of a start."""
    facts = call.start
    assert facts is not None
    spec = facts.spec
    directory = spec.working_directory
    return (
        any(fits_command(each, [facts.program.path], spec.args) for each in table["commands"])
        and all(
            any(fits_pair(each, name, value, exact=key == "env") for each in table.get(key, []))
            for key, pairs in (("env", spec.env), ("labels", spec.labels))
            for name, value in pairs.items()
        )
        and (directory == "/" or any(fits(each, directory) for each in table.get("directories", [])))
        and all(fits_secret(table.get("secrets", []), each) for each in facts.secrets)
        and (table.get("stdin", False) or not spec.stdin)
        and model_allows_user(table, facts.accounts)
    )


def model_allows_user(table: Table, accounts: Accounts) -> bool:
    """Whether a job may have this user and these groups."""
    job, users = accounts.job, [NOBODY]
    if job == NOBODY:
        return True
    for name in table.get("users", []):
        if name != "*":
            users.append(USERS[name])
        elif job.uid != 0:
            users.append(accounts.member)
    listed = table.get("groups", [])
    may_have = {GROUPS[name] for name in listed if name != "*"}
    if "*" in listed:
        may_have |= {job.gid, *job.groups} - {0}
    return any(
        user.uid == job.uid and {job.gid, *job.groups} <= {user.gid, *user.groups, *may_have}
        for user in users
    )


def model_denies_start(table: Table, call: Call) -> bool:
    """Whether all conditions of a deny hold for a start."""
    facts = call.start
    assert facts is not None
    spec, job = facts.spec, facts.accounts.job
    paths = [facts.program.path, *facts.program.names]
    conditions = {
        "commands": lambda: any(fits_command(each, paths, spec.args) for each in table["commands"]),
        "env": lambda: any(
            fits_pair(each, *pair, exact=False) for each in table["env"] for pair in spec.env.items()
        ),
        "labels": lambda: any(
            fits_pair(each, *pair, exact=False) for each in table["labels"] for pair in spec.labels.items()
        ),
        "directories": lambda: any(fits(each, spec.working_directory) for each in table["directories"]),
        "users": lambda: job.uid in {USERS[name].uid for name in table["users"]},
        "groups": lambda: bool({job.gid, *job.groups} & {GROUPS[name] for name in table["groups"]}),
        "secrets": lambda: any(fits_secret(table["secrets"], each) for each in facts.secrets),
        "stdin": lambda: spec.stdin,
    }
    return all(holds() for key, holds in conditions.items() if key in table)


def model(rules: Sequence[Table], client: Client, call: Call) -> bool:
    """Whether no deny and at least one allow matches."""

    def matches(table: Table) -> bool:
        deny = table.get("effect") == "deny"
        if not fits_client(table, client) or call.group.value not in table["calls"]:
            return False
        if table.get("jobs", "all" if deny else "own") == "own" and not call.own:
            return False
        if call.start is None:
            return True
        return (model_denies_start if deny else model_allows_start)(table, call)

    matching = [table for table in rules if matches(table)]
    return bool(matching) and not any(table.get("effect") == "deny" for table in matching)


@given(RULES, CLIENTS, CALLS)
def test_the_decision_is_that_of_the_model(rules: list[Table], client: Client, call: Call) -> None:
    """The policy decides as the naive model does, and the rule that it names explains it."""
    policy = read({"rule": rules})
    assert model(rules, client, call) == decide(policy, client, call).allowed
    matching = {each.rule.name for each in explain(policy, client, call) if not each.failed}
    decision = decide(policy, client, call)
    assert decision.rule is None or decision.rule.name in matching
    if call.start is not None:
        assert decision == rules_of(policy, client).about(call.start.program).decide(call)


@given(RULES, CLIENTS, CALLS, st.randoms(use_true_random=False))
def test_no_order_of_rules_changes_a_decision(
    rules: list[Table], client: Client, call: Call, order: random.Random
) -> None:
    """Whether a call is allowed does not depend on the order of the rules."""
    shuffled = rules.copy()
    order.shuffle(shuffled)
    before, after = (decide(read({"rule": each}), client, call) for each in (rules, shuffled))
    assert before.allowed == after.allowed
