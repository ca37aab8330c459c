"""Policies from TOML: errors name the rule and the key, and what is suspicious is reported."""

import re
import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.options.limit_bounds import read_rule_limits
from worker.cli.policy_file import parse_policy
from worker.core.policy.advice import is_launcher, warnings
from worker.core.policy.decision import decide
from worker.core.policy.reading import InvalidPolicy, PolicyReader
from worker.core.policy.rules import Effect, Jobs

from ..support.policies import NOBODY, ROLES, USERS, read, start, writer

START = '[[rule]]\ncalls = ["start"]\ncommands = ["/bin/x"]\n'
DENY = '[[rule]]\neffect = "deny"\ncalls = ["start"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules = []", "unknown key 'rules'; valid: path, rule, quota"),
        ("rule = 1", "rule: write [[rule]]"),
        ('path = "/bin:lib"', "path: write absolute directories"),
        ("[[rule]]", "rule 1: calls: list groups of calls: read, output, start"),
        ('[[rule]]\nname = "x"\ncalls = ["raed"]', "rule 1 ('x'): calls: unknown group 'raed'"),
        ('[[rule]]\ncalls = ["start"]', "rule 1: commands: list the commands"),
        ('[[rule]]\ncalls = ["start"]\ncommands = []', "commands: write a list with at least one"),
        ('[[rule]]\ncalls = ["read"]\nenv = ["A"]', 'rule 1: env: the rule does not allow "start"'),
        (START + 'clients = "ci"', "clients: write a list of strings"),
        (START + "clients = []", "clients: the list is empty; leave it out"),
        (START + 'clients = ["a?"]', "clients: 'a?': write \\? for the character ?"),
        (START + 'roles = ["root"]', "roles: unknown role 'root'; valid: reader, writer"),
        (START + 'jobs = "mine"', "jobs: write 'own' or 'all', not 'mine'"),
        (START + 'effect = "permit"', "effect: write 'allow' or 'deny', not 'permit'"),
        (START + "stdin = 1", "stdin: write true or false"),
        (START + "comands = []", "unknown key 'comands'"),
        (START + "wrap = []", "wrap: begin with the absolute path"),
        (START + 'wrap = ["bwrap"]', "wrap: begin with the absolute path"),
        (START + "limits.max = {}", "limits: write [limits.default] and [limits.maximum]"),
        (START + "limits.maximum = { memory = '1X' }", "limits: maximum.memory: "),
        (
            START + "limits = { default = { pids = 5 }, maximum = { pids = 3 } }",
            "limits: limits.pids: 5 is above",
        ),
        (START + "effect = [[1]]", "effect: write 'allow' or 'deny'"),
        (START + "limits.maximum.io_read = { a = 'b=1M' }", "limits: maximum.io_read: a: write a limit"),
        (START + "limits.maximum.io_read = { a = [] }", "limits: maximum.io_read: a: write a limit"),
        (START.replace("/bin", "/bin" * 1100), "commands: no path has more than 4096 characters"),
        (START.replace('"/bin/x"', '"x"'), "commands: 'x' is not an absolute path"),
        (START.replace('"/bin/x"', "1"), 'commands: write "/path" or'),
        (START.replace('"/bin/x"', '{ path = "/x", args = ["...", "a"] }'), "can only be the last"),
        (START.replace('"/bin/x"', '{ path = "/x", arguments = [] }'), "unknown key 'arguments'"),
        (START + "name = 'x'\n" + START + "name = 'x'", "two have the name 'x'"),
        (START + "name = ''", "rule 1: name: write a string"),
        (DENY + "unsafe_path = true", "unsafe_path: only a rule that allows has it"),
        (DENY + 'users = ["*"]', "users and groups: to deny every user, leave them out"),
        (DENY.replace("start", "stop") + "stdin = true", "stdin: a deny with it denies starts"),
        ("[[quota]]", "quota 1: running_jobs: write a number"),
        ("[[quota]]\nrunning_jobs = true", "quota 1: running_jobs: write a number"),
        ("[[quota]]\nrunning_jobs = 1\njobs = 1", "quota 1: unknown key 'jobs'"),
    ],
)
def test_errors(text: str, message: str) -> None:
    """An error names the rule, the key and what is expected."""
    with pytest.raises(InvalidPolicy, match=re.escape(message)):
        read(text)


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text("*?.\\/abc", max_size=5), st.floats(allow_nan=False)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("path", "args", "a")), inner)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    (
        *(
            "name",
            "effect",
            "clients",
            "issuers",
            "roles",
            "calls",
            "jobs",
            "commands",
            "env",
            "directories",
        ),
        *(
            "users",
            "groups",
            "labels",
            "ulimits",
            "secrets",
            "stdin",
            "unsafe_path",
            "limits",
            "wrap",
            "running_jobs",
        ),
    )
)


@given(
    st.dictionaries(
        st.sampled_from(("path", "rule", "quota")), VALUES | st.lists(st.dictionaries(KEYS, VALUES))
    )
)
def test_a_file_is_a_policy_or_an_error(tables: dict[str, object]) -> None:
    """Whatever a file has, reading it returns a policy or raises InvalidPolicy."""
    with suppress(InvalidPolicy):
        read(tables)


WORDS = [
    "[[rule]]",
    "[[quota]]",
    "calls",
    "limits",
    "a",
    ".",
    "=",
    "'",
    '"',
    '"*"',
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "1",
]


@given(st.binary(max_size=60) | st.lists(st.sampled_from(WORDS)).map(lambda words: "".join(words).encode()))
def test_any_bytes_are_a_policy_or_an_error(text: bytes) -> None:
    """So are files that are no TOML."""
    with suppress(InvalidPolicy):
        parse_policy(text)


@pytest.mark.parametrize("key", ["effect", "jobs", "limits", "commands", "stdin", "name", "wrap"])
def test_a_value_may_be_nested_without_end(key: str) -> None:
    """`effect.a.a.a = 1` makes tables in tables, which no error message can contain."""
    value: object = 1
    for _ in range(100_000):
        value = {"a": value}
    for nested in (value, {"maximum": {"io_read": value}}):
        with pytest.raises(InvalidPolicy, match=rf"^rule 1: {key}"):
            read({"rule": [{"calls": ["start"], "commands": ["*"], key: nested}]})


def test_defaults_of_rules() -> None:
    """A rule allows, on the client's own jobs; a deny is about all jobs; names are numbers otherwise."""
    allow, deny = read('[[rule]]\ncalls = ["read"]\n[[rule]]\neffect = "deny"\ncalls = ["all"]').rules
    assert ("rule 1", Effect.ALLOW, Jobs.OWN) == (allow.name, allow.effect, allow.jobs)
    assert ("rule 2", Effect.DENY, Jobs.ALL) == (deny.name, deny.effect, deny.jobs)


@pytest.mark.parametrize("text", [START, DENY + 'commands = ["/bin/x"]\n'])
def test_a_rule_may_name_a_directory_that_is_a_link(text: str) -> None:
    """A command is compared without links in its directory, also that of the rule."""
    reader = PolicyReader(read_rule_limits, {"/bin": "/usr/bin"}.__getitem__, ROLES)
    [rule] = reader.read(tomllib.loads(text)).rules
    assert rule.start.commands[0].matches_path("/usr/bin/x")
    assert not rule.start.commands[0].matches_path("/bin/x")


def warned(text: str) -> list[str]:
    """Return the warnings about a policy whose default user is nobody."""
    return list(warnings(read(text), USERS, NOBODY))


@pytest.mark.parametrize(
    "path",
    [
        *("/bin/sh", "/usr/bin/env", "/usr/bin/find", "/bin/tar", "/usr/bin/vi", "/usr/bin/ssh"),
        *("/usr/bin/docker", "/usr/bin/systemd-run", "/lib64/ld-linux-x86-64.so.2", "/lib/ld.so.1"),
        *("/usr/bin/python3.11", "/usr/bin/perl5.36"),
    ],
)
def test_launchers_without_a_list_of_arguments(path: str) -> None:
    """A program that runs others is reported unless its arguments are listed."""
    assert is_launcher(path)
    one = 'clients = ["a"]\n'
    text = START.replace("/bin/x", path) + one
    assert any(path in each for each in warned(text))
    assert any(
        path in each for each in warned(text.replace(f'"{path}"', f'{{ path = "{path}", args = ["..."] }}'))
    )
    assert [] == warned(text.replace(f'"{path}"', f'{{ path = "{path}", args = ["x"] }}'))


def test_every_command_is_reported() -> None:
    """A rule that allows every command is reported, an ordinary one is not."""
    one = 'clients = ["a"]\n'
    assert any("every launcher" in each for each in warned(START.replace("/bin/x", "*") + one))
    assert [] == warned(START + one)


def test_owners_who_share_a_uid_are_reported() -> None:
    """Two owners, or a pattern of owners, whose jobs can have the same uid are reported."""
    two = START + 'clients = ["a"]\n' + START + 'clients = ["b"]\n'
    assert any("(a, b) can have the uid 65534" in each for each in warned(two))
    assert any("(ci-*) can have" in each for each in warned(START + 'clients = ["ci-*"]\n'))
    assert [] == list(warnings(read(two), USERS, None))


def test_users_and_variables_are_reported() -> None:
    """A user who does not exist is reported, and so is a variable that loads code."""
    text = START + 'clients = ["a"]\nusers = ["nosuch"]\nenv = ["LD_PRELOAD", "A"]\n'
    assert ["env: LD_PRELOAD", "no user 'nosuch'"] == [
        found for each in warned(text) for found in ("env: LD_PRELOAD", "no user 'nosuch'") if found in each
    ]


def test_quotas_are_separate_from_rules() -> None:
    """A quota allows nothing by itself."""
    policy = read("[[quota]]\nrunning_jobs = 5\n")
    assert 5 == policy.quotas[0].running_jobs
    assert not decide(policy, writer(), start("/bin/x")).allowed
