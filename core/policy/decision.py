"""The decision about a call: what the policy allows, and which rule decided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .calls import Call, CallGroup, Client, Program
from .matching import LIMITS, excess_of_call, mismatch, mismatch_of_call
from .rules import Effect, Policy, Quota, Rule

_MOST_NAMED = 3
"""Rules that are named because of their limits: an error has little room."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call is allowed, and by which rule; ``rule`` None: no allow matches all of the call.

    ``excess`` has, for each of the first rules that would allow the call with lower limits, its name and
    which limits are above its maximum.
    """

    allowed: bool
    rule: Rule | None = None
    excess: Sequence[str] = ()

    @property
    def reason(self) -> str:
        """What decided, as text."""
        if self.rule is None:
            return "; ".join(("no rule of the policy allows it", *self.excess))
        return f"rule {self.rule.name!r} of the policy {'allows' if self.allowed else 'denies'} it"


NO_RULE = Decision(allowed=False)
"""Of a call that no allow matches."""


def decide(policy: Policy, client: Client, call: Call) -> Decision:
    """Return the decision: allowed if no deny matches and one allow matches all of the call.

    The order of rules does not change it. It only selects the rule that is named, and whose defaults
    apply: the first of several.
    """
    return rules_of(policy, client).decide(call)


@dataclass(frozen=True, slots=True)
class ClientRules:
    """The part of a policy that is about one client."""

    client: Client
    rules: Sequence[Rule]
    quotas: Sequence[Quota]

    def decide(self, call: Call) -> Decision:
        """Return the decision about a call of the client."""
        allowing: Rule | None = None
        exceeded: list[Rule] = []
        for rule in self.rules:
            if rule.effect is Effect.ALLOW and allowing is not None:
                continue
            failed = mismatch_of_call(rule, call)
            if failed == LIMITS:
                exceeded.append(rule)
            elif not failed:
                if rule.effect is Effect.DENY:
                    return Decision(allowed=False, rule=rule)
                allowing = rule
        if allowing is not None:
            return Decision(allowed=True, rule=allowing)
        return _exceeding(exceeded, call) if exceeded else NO_RULE

    def about(self, program: Program) -> "ClientRules":
        """Return the same without rules that cannot match a start of this program."""
        rules = [rule for rule in self.rules if CallGroup.START in rule.calls and _may_match(rule, program)]
        return replace(self, rules=rules)

    @property
    def may_start(self) -> bool:
        """Whether a rule allows some start: otherwise nothing needs to be looked up."""
        return any(rule.effect is Effect.ALLOW and CallGroup.START in rule.calls for rule in self.rules)


def _exceeding(rules: Sequence[Rule], call: Call) -> Decision:
    """Return the denial of a call that these rules would allow with lower limits."""
    excess = [
        f"rule {rule.name!r} would with lower limits: {excess_of_call(rule, call)}"
        for rule in rules[:_MOST_NAMED]
    ]
    return Decision(allowed=False, excess=tuple(excess))


def _may_match(rule: Rule, program: Program) -> bool:
    return rule.effect is Effect.DENY or any(
        command.matches_path(program.path) for command in rule.start.commands
    )


def rules_of(policy: Policy, client: Client) -> ClientRules:
    """Return the part of a policy that is about a client."""
    return ClientRules(
        client,
        tuple(rule for rule in policy.rules if rule.clients.include(client)),
        tuple(quota for quota in policy.quotas if quota.clients.include(client)),
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a rule matters, or does not: the first condition that fails; empty: it matches."""

    rule: Rule
    failed: str


def explain(policy: Policy, client: Client, call: Call) -> Sequence[Explanation]:
    """Return for each rule whether it matches a call, and if not, which condition fails."""
    return [Explanation(rule, mismatch(rule, client, call)) for rule in policy.rules]
