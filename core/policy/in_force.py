"""The policy that a server applies, which a reload replaces."""

from dataclasses import dataclass

from .rules import Policy


@dataclass(slots=True)
class PolicyInForce:
    """The policy, which a reload replaces; None: only the roles decide.

    ``trouble`` is why the policy that was read last is not in force; empty: it is.
    """

    policy: Policy | None = None
    trouble: str = ""
