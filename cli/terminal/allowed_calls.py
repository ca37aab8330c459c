"""The jobs on which a client may make the calls of a group, as text."""

from ...api.who_am_i import AllowedCalls
from ...core.policy.calls import CallGroup


def jobs_of(calls: AllowedCalls, *, policy: bool) -> str:
    """Return whose jobs a group of calls is allowed on, by a policy or by the roles."""
    if calls.group == CallGroup.START:
        return "as the policy allows" if policy else "any command"
    return "all jobs" if calls.own and calls.others else "your own jobs" if calls.own else "jobs of others"
