"""Decisions of a policy in the audit log."""

import json
import re
from pathlib import Path

from worker.client.job import Job
from worker.core.audit.trail import AuditTrail
from worker.core.model.job import JobSpec
from worker.core.policy.in_force import PolicyInForce
from worker.core.testing import MemoryAuditLog

from ..support.audit_page import assert_documented
from ..support.governed import ALICE, LONG, refusal
from ..support.policies import read
from ..support.served import serving


async def test_the_audit_log_has_the_rule_that_decided(people: Path) -> None:
    """Allowed or denied, also where the client is told that there is no such job."""
    log = MemoryAuditLog()
    hidden = '[[rule]]\nname = "no cat"\neffect = "deny"\ncalls = ["start"]\ncommands = ["/usr/bin/cat"]\n'
    policy = PolicyInForce(read(ALICE + hidden))
    async with (
        serving(people, policy=policy, audit=AuditTrail(log)) as served,
        served.client("alice") as alice,
        served.client("bob") as bob,
    ):
        job = str(await alice.start(LONG))
        await refusal(alice.start(JobSpec("cat")))
        await refusal(alice.start(JobSpec("echo")))
        await refusal(bob.query(job))
        await refusal(Job(bob, job).stop())
        await bob.who_am_i()
        await refusal(alice.start(JobSpec("nosuch")))
        await Job(alice, job).stop(grace=0)
    decisions = [each for each in log.records if each["event"] == "decision"]
    assert [
        ("alice", "Start", True, "alice", None),
        ("alice", "Start", False, "no cat", "rule 'no cat' of the policy denies it"),
        ("alice", "Start", False, None, "no rule of the policy allows it"),
        ("bob", "Query", False, None, "does not let 'bob' read this job"),
        ("bob", "Stop", False, None, "does not let 'bob' read this job"),
        ("alice", "Stop", True, "alice", None),
    ] == [
        (each["identity"], each["method"], each["allowed"], each.get("rule"), text_in(each.get("reason")))
        for each in decisions
    ]
    assert [["sleep", "1000"], ["cat"], ["echo"]] == [each["command"] for each in decisions[:3]]
    assert [job, job] == [each["job"] for each in decisions[3:5]]
    # No decision was made about a command that does not exist; a denied call has no outcome.
    assert ["OK", "InvalidArgument", "OK"] == [
        each["code"] for each in log.records if each["event"] == "outcome"
    ]
    assert_documented(log.records)


async def test_the_audit_log_has_what_is_executed(people: Path) -> None:
    """The decision about a start and the start have the wrapper of the rule; the names of secrets, too."""
    log = MemoryAuditLog()
    policy = PolicyInForce(read(ALICE + 'wrap = ["/usr/bin/env", "-i"]\nsecrets = ["*"]\n'))
    async with (
        serving(people, policy=policy, audit=AuditTrail(log)) as served,
        served.client("alice") as alice,
    ):
        job = str(await alice.start(LONG, secrets={"db": b"my content", "key": b"my content"}))
        await Job(alice, job).stop(grace=0)
    decision, started = (
        next(each for each in log.records if each["event"] == event)
        for event in ("decision", "job_started")
    )
    executed = {
        "command": ["sleep", "1000"],
        "executable": "/usr/bin/sleep",
        "wrap": ["/usr/bin/env", "-i"],
    }
    assert {"secrets": ["db", "key"], **executed}.items() <= decision.items()
    assert {"job": job, **executed}.items() <= started.items()
    assert "my content" not in json.dumps(log.records)
    assert_documented(log.records)


def text_in(reason: str | None) -> str | None:
    """Return the part of a reason that says what decided."""
    if reason is None:
        return None
    found = re.search(r"(no rule|rule '|does not let).*?(it|job)(?=;|$)", reason)
    assert found is not None
    return found.group()
