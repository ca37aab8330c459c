"""The decision about a call: what the policy allows, and which rule decided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .calls import Call, CallGroup, Client
from .matching import mismatch
from .rules import Effect, Policy, Rule


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call is allowed, and by which rule; ``rule`` None: no allow matches all of the call."""

    allowed: bool
    rule: Rule | None = None

    @property
    def reason(self) -> str:
        """What decided, as text."""
        if self.rule is None:
            return "no rule of the policy allows it"
        return f"rule {self.rule.name!r} of the policy {'allows' if self.allowed else 'denies'} it"


_NO_RULE = Decision(allowed=False)


def decide(policy: Policy, client: Client, call: Call) -> Decision:
    """Return the decision: allowed if no deny matches and one allow matches all of the call.

    The order of rules does not change it. It only selects the rule that is named, and whose defaults
    apply: the first of several.
    """
    allowing: Rule | None = None
    for rule in policy.rules:
        if rule.effect is Effect.ALLOW and allowing is not None:
            continue
        if not mismatch(rule, client, call):
            if rule.effect is Effect.DENY:
                return Decision(allowed=False, rule=rule)
            allowing = rule
    return _NO_RULE if allowing is None else Decision(allowed=True, rule=allowing)


def may_start(policy: Policy, client: Client) -> bool:
    """Whether a rule allows some start of this client: otherwise nothing needs to be looked up."""
    return any(
        rule.effect is Effect.ALLOW and CallGroup.START in rule.calls and rule.clients.include(client)
        for rule in policy.rules
    )


def rules_of(policy: Policy, client: Client) -> Policy:
    """Return the part of a policy that is about a client: it decides the same for this client."""
    return replace(
        policy,
        rules=tuple(rule for rule in policy.rules if rule.clients.include(client)),
        quotas=tuple(quota for quota in policy.quotas if quota.clients.include(client)),
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rule matters, or does not: the first condition that fails; empty: it matches."""

    rule: Rule
    failed: str


def explain(policy: Policy, client: Client, call: Call) -> Sequence[Explanation]:
    """Return for each rule whether it matches a call, and if not, which condition fails."""
    return [Explanation(rule, mismatch(rule, client, call)) for rule in policy.rules]
