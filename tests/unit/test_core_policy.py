"""The decision of a policy: its rules, and each trap that sudoers and its like have had."""

import re

import pytest

from worker.core.model.job import JobSpec
from worker.core.model.limits import MemoryLimit, ResourceLimits
from worker.core.model.terminal import WindowSize
from worker.core.model.ulimits import Ulimit
from worker.core.policy.calls import Call, CallGroup, Client, Ids
from worker.core.policy.decision import Decision, decide, explain, rules_of

from ..support.policies import NOBODY, USERS, read, start, writer

TAIL = """
[[rule]]
name = "logs"
clients = ["ci"]
calls = ["start"]
commands = [{ path = "/usr/bin/tail", args = ["-n", "*", "/var/log/messages*"] }, "/usr/bin/id"]
"""


def allowed(policy: str, call: Call, client: Client | None = None) -> bool:
    """Whether a policy in TOML allows a call."""
    return decide(read(policy), client or writer(), call).allowed


def extended(**keys: str) -> str:
    """Return the rule of TAIL with more keys, whose values are TOML."""
    return TAIL + "".join(f"{key} = {value}\n" for key, value in keys.items())


def test_nothing_is_allowed_without_a_rule() -> None:
    """An empty policy denies every call, and says that no rule allows it."""
    decision = decide(read(""), writer(), Call(CallGroup.READ))
    assert Decision(allowed=False) == decision
    assert "no rule of the policy allows it" == decision.reason


def test_arguments_are_never_joined() -> None:
    """A pattern that would match the joined arguments matches none of them beyond its own."""
    assert allowed(TAIL, start("/usr/bin/tail", "-n", "5", "/var/log/messages.1"))
    assert not allowed(TAIL, start("/usr/bin/tail", "-n", "5", "/var/log/messages", "/etc/shadow"))
    assert not allowed(TAIL, start("/usr/bin/tail", "-n", "5", "/var/log/messages /etc/shadow"))
    assert not allowed(TAIL, start("/usr/bin/tail", "-n", "5"))
    assert not allowed(TAIL, start("/usr/bin/tail", "-n", "-5", "/var/log/messages"))
    assert not allowed(TAIL, start("/usr/bin/tail", "-n", "5", "/var/log/messages/../../../etc/shadow"))


@pytest.mark.parametrize(
    ("args", "given", "matches"),
    [
        ("[]", (), True),
        ("[]", ("x",), False),
        ('["..."]', (), True),
        ('["..."]', ("-rf", "/"), True),
        ('["restart", "..."]', ("restart",), True),
        ('["restart", "..."]', ("stop", "restart"), False),
        ('["*"]', ("...",), True),
        ('["*", "*"]', ("a",), False),
    ],
)
def test_a_list_of_arguments(args: str, given: tuple[str, ...], *, matches: bool) -> None:
    """A list stands for exactly its arguments, and for any others only after ``...``."""
    policy = f'[[rule]]\ncalls = ["start"]\ncommands = [{{ path = "/bin/x", args = {args} }}]'
    assert matches == allowed(policy, start("/bin/x", *given))


def test_a_command_without_a_list_allows_any_arguments() -> None:
    """A command that is only a path allows every argument, as in sudoers."""
    assert allowed(TAIL, start("/usr/bin/id", "-u", "/x"))


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        ({"env": {"MODE": "fast"}}, {"env": '["MODE"]'}),
        ({"env": {"MODE": "fast"}}, {"env": '["MODE=f*"]'}),
        ({"env": {"CI_JOB": "1"}}, {"env": '["CI_*"]'}),
        ({"working_directory": "/srv/a"}, {"directories": '["/srv/*"]'}),
        ({"labels": {"team": "a"}}, {"labels": '["team"]'}),
        ({"stdin": True}, {"stdin": "true"}),
        ({"terminal": WindowSize(24, 80)}, {"terminal": "true"}),
        ({"terminal": WindowSize(24, 80), "env": {"TERM": "xterm"}}, {"terminal": "true"}),
        ({"new_privileges": True}, {"new_privileges": "true"}),
        ({"ulimits": [Ulimit("nofile", 5, 5)]}, {"ulimits": '["nofile"]'}),
        ({"secrets": frozenset({"db", "token"})}, {"secrets": '["db", "to*"]'}),
        ({"user": USERS["build"]}, {"users": '["build"]'}),
        ({"user": USERS["build"]}, {"users": '["*"]'}),
        ({"user": Ids(1000, 50), "member": USERS["build"]}, {"users": '["build"]'}),
        ({"user": Ids(1000, 999), "member": USERS["build"]}, {"users": '["*"]', "groups": '["docker"]'}),
        ({"user": Ids(0, 0)}, {"users": '["root"]'}),
        ({"unsafe": "/usr is writable"}, {"unsafe_path": "true"}),
    ],
)
def test_what_is_not_listed_is_not_allowed(spec: dict[str, object], keys: dict[str, str]) -> None:
    """Environment, directory, user, groups, labels and the rest are allowed only as a rule lists them."""
    call = start("/usr/bin/id", **spec)  # type: ignore[arg-type]
    assert not allowed(TAIL, call)
    assert allowed(extended(**keys), call)


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        ({"env": {"MODE": "../../x"}}, {"env": '["MODE=*"]'}),
        ({"env": {"TERM": "/tmp/x"}, "terminal": WindowSize()}, {"terminal": "true"}),
        ({"working_directory": "/srv/..", "directory": "/"}, {"directories": '["/srv/*"]'}),
        ({"working_directory": "/srv/link", "directory": "/root"}, {"directories": '["/srv/*"]'}),
        ({"secrets": frozenset({"db", "token"})}, {"secrets": '["db"]'}),
        ({"env": {"CREDENTIALS_DIRECTORY": "/root"}}, {"env": '["*"]'}),
        ({"user": Ids(0, 0)}, {"users": '["*"]'}),
        ({"user": Ids(7, 7), "own_uid": 7}, {"users": '["*"]'}),
        ({"user": Ids(65534, 0), "member": NOBODY}, {"users": '["nobody", "*"]', "groups": '["*"]'}),
        ({"user": Ids(1000, 999), "member": USERS["build"]}, {"users": '["build"]'}),
        ({"user": Ids(1000, 1000, frozenset({999}))}, {"users": '["build"]'}),
        ({"user": USERS["deploy"]}, {"users": '["build"]', "groups": '["*"]'}),
    ],
)
def test_what_a_list_does_not_allow(spec: dict[str, object], keys: dict[str, str]) -> None:
    """A list allows no path in a value, no way out of a directory, no root, no group of others."""
    assert not allowed(extended(**keys), start("/usr/bin/id", **spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "SHELL",
        "ENV",
        "BASH_ENV",
        "BASH_FUNC_x%%",
        "LD_PRELOAD",
        "PYTHONPATH",
        "GIT_SSH",
        "TERM",
    ],
)
def test_variables_that_load_code_must_be_named(name: str) -> None:
    """No star allows a variable by which a program runs what it names; its exact name does."""
    call = start("/usr/bin/id", env={name: "x"})
    assert not allowed(extended(env='["*"]'), call)
    assert not allowed(extended(env=f'["{name[:2]}*"]'), call)
    assert allowed(extended(env=f'["{name}"]'), call)


def test_users_are_compared_as_numbers() -> None:
    """A rule that names a user allows its number, and not the name of another number."""
    policy = extended(users='["deploy"]')
    assert allowed(policy, start("/usr/bin/id", user=Ids(1001, 1001)))
    assert not allowed(policy, start("/usr/bin/id", user=Ids(1002, 1001)))


def test_one_allow_must_match_all_of_a_call() -> None:
    """Two rules of which each allows a part of a call do not allow it together."""
    policy = extended(env='["MODE"]') + TAIL.replace("logs", "labels") + 'labels = ["team"]\n'
    both = {"env": {"MODE": "1"}, "labels": {"team": "a"}}
    assert allowed(policy, start("/usr/bin/id", env=both["env"]))
    assert allowed(policy, start("/usr/bin/id", labels=both["labels"]))
    assert not allowed(policy, start("/usr/bin/id", **both))


DENY = TAIL.replace('"/usr/bin/id"', '"/usr/bin/*"') + (
    '[[rule]]\nname = "no dash"\neffect = "deny"\ncalls = ["start"]\ncommands = ["/usr/bin/dash"]\n'
)


def test_an_allow_sees_only_the_name_and_a_deny_every_name() -> None:
    """A link to a denied program is denied; a link to an allowed program is not allowed by that."""
    assert allowed(DENY, start("/usr/bin/ls"))
    assert not allowed(DENY, start("/usr/bin/dash"))
    assert not allowed(DENY, start("/usr/bin/sh", names=frozenset({"/bin/sh", "/usr/bin/dash"})))
    assert not allowed(TAIL, start("/usr/local/bin/id", names=frozenset({"/usr/bin/id"})))


def test_the_deciding_rule_is_named() -> None:
    """A denial names the rule that denies; an allow the first one that allows."""
    policy = read(DENY)
    assert (
        "rule 'no dash' of the policy denies it" == decide(policy, writer(), start("/usr/bin/dash")).reason
    )
    assert "rule 'logs' of the policy allows it" == decide(policy, writer(), start("/usr/bin/ls")).reason


@pytest.mark.parametrize(
    ("key", "call"),
    [
        ('env = ["LD_*"]', start("/usr/bin/id", env={"LD_X": "1"})),
        ('directories = ["/root"]', start("/usr/bin/id", working_directory="/x", directory="/root")),
        ('users = ["root"]', start("/usr/bin/id", user=Ids(0, 5))),
        ('groups = ["docker"]', start("/usr/bin/id", user=Ids(5, 5, frozenset({999})))),
        ('labels = ["team=a"]', start("/usr/bin/id", labels={"team": "a"})),
        ('ulimits = ["nproc"]', start("/usr/bin/id", ulimits=[Ulimit("nproc", 5, 5)])),
        ('secrets = ["db*"]', start("/usr/bin/id", secrets=frozenset({"a", "db-1"}))),
        ("stdin = true", start("/usr/bin/id", stdin=True)),
        ("terminal = true", start("/usr/bin/id", terminal=WindowSize())),
        ("new_privileges = true", start("/usr/bin/id", new_privileges=True)),
    ],
)
def test_conditions_of_a_deny(key: str, call: Call) -> None:
    """A deny matches the starts that request what it lists, and no others."""
    everything = (
        extended(
            env='["*", "LD_X"]', directories='["/*"]', users='["root", "*"]', groups='["*"]', labels='["*"]'
        )
        + 'ulimits = ["*"]\nsecrets = ["*"]\nstdin = true\nterminal = true\nnew_privileges = true\n'
    )
    deny = f'[[rule]]\neffect = "deny"\ncalls = ["start"]\n{key}\n'
    assert allowed(everything, call)
    assert not allowed(everything + deny, call)
    assert allowed(everything + deny, start("/usr/bin/id"))


def test_whose_jobs() -> None:
    """An allow is about the client's own jobs unless it says all, a deny about all jobs."""
    own, other = (Call(CallGroup.STOP, own=own) for own in (True, False))
    policy = '[[rule]]\ncalls = ["stop"]\n'
    assert allowed(policy, own)
    assert not allowed(policy, other)
    assert allowed(policy + 'jobs = "all"\n', other)
    deny = '[[rule]]\neffect = "deny"\ncalls = ["all"]\n'
    assert not allowed(policy + deny, own)


@pytest.mark.parametrize(
    ("key", "matching", "other"),
    [
        ('clients = ["ci-*"]', Client("ci-1"), Client("xci-1")),
        ('clients = ["*"]', Client("-a/b"), None),
        ('clients = [""]', Client(""), Client("x")),
        ('clients = ["*x*", "\\\\*"]', Client("axb"), Client("a")),
        ('clients = ["*x*", "\\\\*"]', Client("*"), Client("**")),
        ('issuers = ["CN=a"]', Client("x", "CN=a"), Client("x", "CN=b")),
        ('roles = ["writer"]', writer(), Client("x", roles=frozenset({"reader"}))),
    ],
)
def test_which_clients(key: str, matching: Client, other: Client | None) -> None:
    """A rule is about the clients that meet all of its conditions on clients."""
    policy = f'[[rule]]\ncalls = ["read"]\n{key}\n'
    assert allowed(policy, Call(CallGroup.READ), matching)
    assert other is None or not allowed(policy, Call(CallGroup.READ), other)


LIMITED = extended() + "limits.default = { memory = '1G' }\nlimits.maximum = { memory = '2G' }\n"


MANY = ResourceLimits(memory=MemoryLimit(swap_max=1 << 40))


@pytest.mark.parametrize(("size", "matches"), [(1 << 30, True), (3 << 30, False)])
def test_limits_above_the_maximum_do_not_match(size: int, *, matches: bool) -> None:
    """A rule allows limits up to its maximum, at a start and at an update."""
    limits = ResourceLimits(memory=MemoryLimit(max=size))
    assert matches == allowed(LIMITED, start("/usr/bin/id", limits=limits))
    update = LIMITED.replace('calls = ["start"]', 'calls = ["start", "update"]')
    assert matches == allowed(update, Call(CallGroup.UPDATE, changes=limits))
    assert not allowed(update, Call(CallGroup.UPDATE, changes=ResourceLimits(unlimited=("memory.max",))))


@pytest.mark.parametrize(("maximum", "swap"), [("", 0), (", swap = '1G'", 1 << 30)])
def test_the_maximum_of_memory_is_that_of_all_memory(maximum: str, swap: int) -> None:
    """A rule with a maximum of memory allows no swap, except what its maximum of swap allows."""
    policy = read(LIMITED.replace("'2G' }", f"'2G'{maximum} }}"))

    def decision(swap: int) -> Decision:
        return decide(
            policy, writer(), start("/usr/bin/id", limits=ResourceLimits(memory=MemoryLimit(swap_max=swap)))
        )

    assert decision(swap).allowed
    assert f"limits.memory.swap_max: {swap + 1} is above the rule's" in decision(swap + 1).reason
    free = read(LIMITED.replace("'2G' }", "'2G', swap = 'unlimited' }"))
    assert decide(free, writer(), start("/usr/bin/id", limits=MANY)).allowed


def test_a_refusal_because_of_limits_names_rule_limit_and_maximum() -> None:
    """Each limit above the maximum of a rule that matches all else is named, of at most three rules."""
    policy = LIMITED.replace("'2G' }", "'2G', pids = 9, cpus = '0-1' }")
    limits = ResourceLimits(memory=MemoryLimit(max=3 << 30), cpuset="0-2", unlimited=("pids",))
    decision = decide(read(policy), writer(), start("/usr/bin/id", limits=limits))
    expected = (
        "no rule of the policy allows it; rule 'logs' would with lower limits: "
        "limits.memory.max: 3221225472 is above the rule's maximum of 2147483648, "
        "limits.cpuset: CPU 2 is not among those that the rule allows, 0-1, "
        "limits.pids: unlimited is above the rule's maximum of 9"
    )
    assert (None, expected) == (decision.rule, decision.reason)
    others = [policy.replace("logs", name) for name in ("b", "c", "d")]
    reason = decide(read("".join((policy, *others))), writer(), start("/usr/bin/id", limits=limits)).reason
    assert ["logs", "b", "c"] == re.findall("rule '(.*?)' would", reason)


def test_limits_are_named_only_if_nothing_else_is_missing() -> None:
    """What else a rule does not allow, and a rule that denies, are no matter of limits."""
    limits = ResourceLimits(memory=MemoryLimit(max=3 << 30))
    policy = read(LIMITED)
    for call in (start("/bin/sh", limits=limits), start("/usr/bin/id", limits=limits, env={"A": "1"})):
        assert "no rule of the policy allows it" == decide(policy, writer(), call).reason
    denied = read(LIMITED + '[[rule]]\nname = "no"\neffect = "deny"\ncalls = ["start"]\n')
    assert "rule 'no'" in decide(denied, writer(), start("/usr/bin/id", limits=limits)).reason


def test_defaults_come_from_the_first_rule_that_allows() -> None:
    """Of several rules that allow a start, the first one in the file decides the defaults."""
    policy = read(LIMITED + TAIL.replace("logs", "second"))
    decision = decide(policy, writer(), start("/usr/bin/id"))
    assert decision.rule is not None
    assert "logs" == decision.rule.name
    assert 1 << 30 == decision.rule.start.limits.default.memory.max


def test_the_rules_of_a_client_decide_the_same() -> None:
    """The part of a policy that is about a client is enough to decide, also whether it may start at all."""
    policy = read(DENY)
    assert rules_of(policy, writer("x")).rules == policy.rules[1:]
    assert rules_of(policy, writer()).may_start
    assert not rules_of(policy, writer("x")).may_start


def test_an_explanation_names_the_condition_that_fails() -> None:
    """For each rule, the first condition that fails is named; none if the rule matches."""
    policy = read(DENY)
    cases = {
        "client": (writer("x"), start("/usr/bin/id")),
        "calls": (writer(), Call(CallGroup.STOP)),
        "commands": (writer(), start("/bin/other")),
        "args": (writer(), start("/usr/bin/tail", "x")),
        "env": (writer(), start("/usr/bin/ls", env={"A": "1"})),
        "": (writer(), start("/usr/bin/ls")),
    }
    narrow = read(DENY.replace('"/usr/bin/*"', '"/usr/bin/ls"'))
    for failed, (client, call) in cases.items():
        assert failed == explain(narrow, client, call)[0].failed
    assert "commands" == explain(policy, writer(), start("/usr/bin/id"))[1].failed


def test_a_spec_of_defaults_needs_nothing_but_its_command() -> None:
    """What a job has without a request is not a request: directory /, the default user, no limits."""
    assert JobSpec("/usr/bin/id").working_directory == "/"
    assert allowed(TAIL, start("/usr/bin/id"))
