"""Fuzz policy files: any bytes are a policy or an error that says why not, and a policy always decides.

An input that begins with a zero byte chooses keys and values of a file that is nearly a policy.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["worker.core.policy", "worker.cli", "tomllib"]):
    from worker.cli.policy_file import parse_policy, summary
    from worker.cli.terminal.policy_explanation import explanation
    from worker.core.policy.advice import warnings
    from worker.core.policy.calls import Call, CallGroup, Client
    from worker.core.policy.decision import decide, explain
    from worker.core.policy.reading import InvalidPolicy
    from worker.core.policy.rules import Policy

from worker.core.model.limits import MemoryLimit, ResourceLimits

from ..support.policies import NOBODY, USERS, start, writer
from .fuzzing import fuzz

CLIENTS = [writer(), writer("alice"), Client("", "", frozenset())]
CALLS = [
    start("/usr/bin/make", "-C", "/srv/build/app", env={"CI_JOB": "1"}, limits=ResourceLimits(pids=5)),
    start("/bin/x", working_directory="/srv/a", labels={"a": "b"}, stdin=True, user=USERS["build"]),
    *(Call(group, own) for group in CallGroup for own in (True, False)),
    Call(CallGroup.UPDATE, changes=ResourceLimits(memory=MemoryLimit(max=1 << 30))),
]

PATTERNS = [
    "*",
    "/usr/bin/*",
    "/usr/bin/make",
    "/bin/x",
    "/*/*",
    "/a*b*",
    "\\\\*",
    "-*",
    "a?",
    "\\u0000",
    "...",
]
LISTS = [f'["{each}"]' for each in PATTERNS]
NAMES = ["['ci']", "['*']", "['alice', 'CN=*']"]
VALUES = {
    "effect": ["'allow'", "'deny'"],
    "calls": ["['start']", "['all']", "['read', 'update', 'admin']"],
    "commands": [
        *LISTS,
        "[{ path = '/bin/x', args = ['...'] }]",
        "[{ path = '*', args = ['-C', '/*/*/*'] }]",
    ],
    "jobs": ["'own'", "'all'"],
    "clients": NAMES,
    "issuers": NAMES,
    "roles": ["['writer']", "['reader', 'writer']"],
    "env": ["['CI_*']", "['A=*b']", "['PATH']", *LISTS],
    "directories": LISTS,
    "users": ["['build', 'root']", "['*']"],
    "groups": ["['staff']", "['*']"],
    "labels": ["['a=*']", *LISTS],
    "ulimits": NAMES,
    "secrets": NAMES,
    "stdin": ["true"],
    "terminal": ["true"],
    "new_privileges": ["false"],
    "unsafe_path": ["true"],
    "wrap": ["['/usr/bin/bwrap', '--']"],
    "limits": [
        "{ default = { pids = 5 }, maximum = { pids = 9 } }",
        "{ maximum = { io_read = { a = '1M' }, cpu = '50%', memory = 0x7fffffffffffffff } }",
        "{ default = { memory = 'max', io_write = { '8:0' = 1e3 } } }",
    ],
    "name": ["'a'", "'b'"],
}
OTHERS = [
    "nan",
    "-1",
    "1e400",
    "''",
    "[]",
    "[[]]",
    "{}",
    "{ a.b = [{}] }",
    "1979-05-27",
    "true",
    "{ maximum = 1 }",
]
KEYS = list(VALUES)

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "policy.md").read_text()
SEEDS = [
    *(text.encode() for text in re.findall(r"```toml\n# policy\n(.*?)```", PAGE, re.DOTALL)),
    *(bytes([0, *range(first, first + 60)]) for first in range(0, 180, 20)),
]
WORDS = [
    *(
        "[[rule]]\n",
        "[[quota]]\n",
        "path = ",
        "running_jobs = ",
        '"""',
        "\\",
        "limits.maximum.",
        "io_read = ",
        "args = ",
    ),
    *(f"{key} = " for key in KEYS),
    *{value for values in VALUES.values() for value in values},
    *OTHERS,
]


def policy_of(provider: "atheris.FuzzedDataProvider") -> Iterator[str]:
    """Yield the lines of a file that is nearly a policy: most keys have a value that they may have."""
    for _ in range(provider.ConsumeIntInRange(1, 4)):
        if provider.ConsumeIntInRange(0, 9) == 0:
            yield from ("[[quota]]", "running_jobs = 5")
            continue
        yield "[[rule]]"
        chosen = {
            *("calls", "commands"),
            *(provider.PickValueInList(KEYS) for _ in range(provider.ConsumeIntInRange(0, 8))),
        }
        for key in KEYS:
            if key in chosen:
                strange = provider.ConsumeIntInRange(0, 30) == 0
                yield f"{key} = {provider.PickValueInList(OTHERS if strange else VALUES[key])}"


def one(data: bytes) -> None:
    """Read a policy, and if it is one, make decisions."""
    if data[:1] == b"\0":
        data = "\n".join(policy_of(atheris.FuzzedDataProvider(data[1:]))).encode()
    try:
        policy = parse_policy(data)
    except InvalidPolicy:
        return
    assert summary(policy)
    list(warnings(policy, USERS, NOBODY))
    reordered = Policy(policy.rules[::-1], policy.quotas, policy.path)
    for client in CLIENTS:
        for call in CALLS:
            decision, rules = decide(policy, client, call), explain(policy, client, call)
            assert decide(reordered, client, call).allowed == decision.allowed
            list(explanation(client, call, "owner", decision, rules))


if __name__ == "__main__":
    fuzz("policies", one, SEEDS, WORDS)
