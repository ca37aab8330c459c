"""The one place that decides about every call: first by the roles of the caller, then by the policy.

What a client may not read does not exist for that client.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from errno import ENAMETOOLONG, ENOENT

from betterproto2 import Message

from ..core.errors import AccessDenied, JobHidden, SpawnFailed
from ..core.look_up import look_up
from ..core.model.client_id import ClientId
from ..core.model.execution import Execution
from ..core.model.grant import NO_GRANT, Grant, RunningJobs
from ..core.model.job import JobId, JobRecord, JobSpec, parse_job_id
from ..core.policy.calls import Call, CallGroup, Client, StartFacts
from ..core.policy.decision import NO_RULE, ClientRules, Decision, rules_of
from ..core.policy.in_force import PolicyInForce
from ..core.policy.lookup import Lookup
from ..core.policy.rules import Policy
from ..core.worker import Worker
from ..proto.health import HealthCheckRequest
from ..proto.reflection import ServerReflectionRequest
from ..proto.worker import (
    AttachOpen,
    ListRequest,
    QueryRequest,
    StartRequest,
    UpdateRequest,
    WhoAmIRequest,
)
from . import translate
from .identity import Identity
from .roles import RIGHTS, Right
from .who_am_i import AllowedCalls, WhoAmI

_MOST_CLIENTS = 1000
"""Clients whose rights are kept."""

_MOST_PROGRAMS = 100
"""Programs for which the rules of a client are kept."""

_PATH_MAX = 4096
"""Bytes of a path, with the NUL at its end (limits.h)."""

_ADVICE = "`worker policy explain` shows on the server why"


@dataclass(frozen=True, slots=True)
class Permit:
    """What an allowed call gets: the name of the rule that allows it, and what belongs to the method.

    ``spec`` and ``grant`` are for a start; ``visible`` decides which jobs a list has, None: all. ``job`` is
    what a query refers to.
    """

    rule: str = ""
    spec: JobSpec | None = None
    grant: Grant = NO_GRANT
    visible: Callable[[JobRecord], bool] | None = None
    job: JobId | None = None


NO_POLICY = Permit()

permit: ContextVar[Permit] = ContextVar("permit", default=NO_POLICY)
"""What the call that is being handled is allowed."""


@dataclass(frozen=True, slots=True)
class _Rights:
    """What a client may do: its rules and quotas, and the decision for each group and kind of job."""

    client: ClientId
    rules: ClientRules
    quotas: Sequence[RunningJobs]
    decisions: Mapping[tuple[CallGroup, bool], Decision]
    may_start: bool
    of_programs: dict[str, ClientRules] = field(default_factory=dict)

    def of(self, group: CallGroup, *, own: bool = True) -> Decision:
        return self.decisions[group, own]

    def of_start(self, facts: StartFacts) -> Decision:
        """Return the decision about a start."""
        call, program = Call(CallGroup.START, start=facts), facts.program
        rules = self.of_programs.get(program.path)
        if rules is None:
            rules = self.rules.about(program)
            if not program.missing:  # a name that a client invents may be long
                if len(self.of_programs) >= _MOST_PROGRAMS:
                    self.of_programs.clear()
                self.of_programs[program.path] = rules
        return rules.decide(call)

    def reads(self, record: JobRecord) -> bool:
        """Whether a job exists for the client."""
        return self.of(CallGroup.READ, own=self.owns(record)).allowed

    def owns(self, record: JobRecord) -> bool:
        return record.belongs_to(self.client)


class Authorization:
    """Decides by roles, and by the policy in force if there is one; a policy needs a lookup."""

    def __init__(
        self, worker: Worker, in_force: PolicyInForce | None = None, lookup: Lookup | None = None
    ) -> None:
        self._worker = worker
        self._in_force = in_force or PolicyInForce()
        self._lookup = lookup
        self._rights: dict[Identity, _Rights] = {}
        self._rights_by: Policy | None = None

    def check_role(self, identity: Identity, method: str, right: Right | None) -> None:
        """Raise AccessDenied unless a role has the right; no rule of a policy makes up for it."""
        if right is not None and not identity.may(right):
            roles = ", ".join(sorted(identity.roles)) or "none"
            raise AccessDenied(
                f"{method} requires a role with the right to {right.value}; "
                f"the roles of {identity.name!r} are: {roles}"
            )

    async def check(self, identity: Identity, group: CallGroup, request: Message) -> Permit:
        """Return what a call is allowed, whose caller has the role for it, by the policy in force.

        Raises AmbiguousJob, AccessDenied, and JobHidden, which a client sees as for an unknown job.
        """
        while True:
            policy = self._in_force.policy
            permit = await self._check(policy, identity, group, request)
            if self._in_force.policy is policy:  # lookups take a while, and there may be a new one
                return permit

    async def _check(  # noqa: PLR0911 - by kind of request
        self, policy: Policy | None, identity: Identity, group: CallGroup, request: Message
    ) -> Permit:
        if policy is None:
            if isinstance(request, QueryRequest):
                return Permit(job=await self._resolve(identity, request))
            return NO_POLICY
        rights = self._rights_of(identity, policy)
        match request:
            case WhoAmIRequest():
                return NO_POLICY
            case HealthCheckRequest() | ServerReflectionRequest():
                return _allowed(rights, rights.of(group), group)
            case StartRequest():
                secrets = frozenset(each.name for each in request.secrets)
                return await self._check_start(rights, policy, translate.job_spec(request), secrets)
            case ListRequest():
                own, others = rights.of(group), rights.of(group, own=False)
                return replace(
                    _allowed(rights, own if own.allowed else others, group), visible=rights.reads
                )
            case QueryRequest():
                job = await self._resolve(identity, request, rights.reads)
                return replace(await self._check_job(rights, job, group), job=job)
            case UpdateRequest():
                return await self._check_update(rights, request)
            case AttachOpen():
                return await self._check_attach(rights, policy, request)
            case _:
                # A request without a job would have its own case.
                job = parse_job_id(request.job_id)  # type: ignore[attr-defined]
                return await self._check_job(rights, job, group)

    def who_am_i(self, identity: Identity) -> WhoAmI:
        """Return who a client is, and which calls it may make."""
        calls = self._allowed_calls(identity)
        admin = any(each.group == CallGroup.ADMIN for each in calls)
        return WhoAmI(
            identity.name,
            identity.issuer,
            sorted(map(str, identity.roles)),
            self._in_force.policy is not None,
            calls,
            self._in_force.trouble if admin else "",
        )

    def _allowed_calls(self, identity: Identity) -> list[AllowedCalls]:
        policy = self._in_force.policy
        rights = None if policy is None else self._rights_of(identity, policy)
        found = []
        for group in CallGroup:
            own = others = True
            if rights is not None:
                own, others = (rights.of(group, own=own).allowed for own in (True, False))
            if group is CallGroup.START:
                own = rights is None or rights.may_start
                others = False
            if identity.may(RIGHTS[group]) and (own or others):
                found.append(AllowedCalls(group.value, own, others))
        return found

    def _rights_of(self, identity: Identity, policy: Policy) -> _Rights:
        if policy is not self._rights_by or len(self._rights) > _MOST_CLIENTS:
            self._rights.clear()
            self._rights_by = policy
        rights = self._rights.get(identity)
        if rights is None:
            client = Client(identity.name, identity.issuer, frozenset(map(str, identity.roles)))
            rules = rules_of(policy, client)
            decisions = {
                (group, own): rules.decide(Call(group, own)) for group in CallGroup for own in (True, False)
            }
            quotas = [
                RunningJobs(quota.running_jobs, f"quota {quota.name!r} of the policy")
                for quota in rules.quotas
            ]
            rights = self._rights[identity] = _Rights(
                identity.client, rules, quotas, decisions, rules.may_start
            )
        return rights

    async def _resolve(
        self, identity: Identity, request: QueryRequest, reads: Callable[[JobRecord], bool] | None = None
    ) -> JobId:
        """Return the job that a client refers to: no other method accepts more than an id."""
        owner, issuer = identity.name, identity.issuer
        return await self._worker.resolve(request.job_id, owner=owner, issuer=issuer, visible=reads)

    async def _check_job(self, rights: _Rights, job: JobId, group: CallGroup) -> Permit:
        record = await self._worker.record(job)
        return _allowed_on(rights, record, rights.of(group, own=rights.owns(record)), group)

    async def _record(self, job: str) -> JobRecord:
        return await self._worker.record(parse_job_id(job))

    async def _check_start(
        self, rights: _Rights, policy: Policy, spec: JobSpec, secrets: frozenset[str] = frozenset()
    ) -> Permit:
        if not rights.may_start:  # then nothing is looked up for this client
            raise _denied(rights.rules.client, "start jobs", NO_RULE)
        for path in (spec.command, spec.working_directory):
            # The kernel rejects it (PATH_MAX); to resolve it first would keep a thread busy for minutes.
            if len(path.encode(errors="surrogatepass")) >= _PATH_MAX:
                raise SpawnFailed(ENAMETOOLONG, f"{path[:64]}...: {os.strerror(ENAMETOOLONG)}")
        facts = await self._facts(spec, policy)
        if secrets:
            facts = replace(facts, secrets=secrets)
        decision = rights.of_start(facts)
        if facts.program.missing and (decision.allowed or "/" not in spec.command):
            raise SpawnFailed(ENOENT, f"{spec.command}: {os.strerror(ENOENT)}")
        if not decision.allowed or decision.rule is None:
            raise _denied(rights.rules.client, f"start {spec.command}", decision)
        rule = decision.rule
        wrap = await self._wrapper(rule.start.wrap, rule.name, unsafe_path=rule.start.unsafe_path)
        execution = Execution(facts.program.path, wrap, policy.path, facts.directory)
        return Permit(rule.name, spec, Grant(execution, rule.start.limits, rights.quotas))

    async def _facts(self, spec: JobSpec, policy: Policy) -> StartFacts:
        assert self._lookup is not None
        known = self._lookup.known_facts(spec, policy)
        return await look_up(self._lookup.facts, spec, policy) if known is None else known

    async def _wrapper(self, wrap: tuple[str, ...], rule: str, *, unsafe_path: bool) -> tuple[str, ...]:
        """Return a wrapper with the path of its program, which must be as safe as that of a command."""
        if not wrap:
            return ()
        assert self._lookup is not None
        program = self._lookup.known_program(wrap[0])
        if program is None:
            program = await look_up(self._lookup.program, wrap[0])
        if program.missing:
            raise SpawnFailed(ENOENT, f"{wrap[0]}, the wrapper of rule {rule!r}: {os.strerror(ENOENT)}")
        if program.unsafe and not unsafe_path:
            raise AccessDenied(f"the wrapper of rule {rule!r} of the policy: {program.unsafe}")
        return (program.path, *wrap[1:])

    async def _check_update(self, rights: _Rights, request: UpdateRequest) -> Permit:
        record = await self._record(request.job_id)
        own = rights.owns(record)
        decision = rights.of(CallGroup.UPDATE, own=own)
        if decision.allowed:
            call = Call(CallGroup.UPDATE, own, changes=translate.changes(request))
            decision = rights.rules.decide(call)
        return _allowed_on(rights, record, decision, CallGroup.UPDATE)

    async def _check_attach(self, rights: _Rights, policy: Policy, request: AttachOpen) -> Permit:
        """Check an Attach; to write to a job of another owner is to start its command."""
        record = await self._record(request.job_id)
        own = rights.owns(record)
        group = CallGroup.ATTACH
        allowed = _allowed_on(rights, record, rights.of(group, own=own), group)
        if own or not request.input:
            return allowed
        start = await self._start_of(rights, policy, record)
        if start is None:
            if not rights.reads(record):
                raise JobHidden(record.id)
            raise _denied(rights.rules.client, "write to this job, because it may not start it", NO_RULE)
        return start

    async def _start_of(self, rights: _Rights, policy: Policy, record: JobRecord) -> Permit | None:
        """Return the permit for a start of a job as it was executed, None if it is not allowed."""
        execution = record.execution
        # The user of the job may not be the default user of today; None is the user of this server.
        user = record.effective_user or str(os.geteuid())
        spec = replace(record.spec, user=user)
        if execution is not None:
            directory = execution.directory or spec.working_directory
            spec = replace(spec, command=execution.path, working_directory=directory)
        try:
            allowed = await self._check_start(rights, policy, spec)
        except (AccessDenied, SpawnFailed):
            return None
        wrapper = () if execution is None else execution.wrapper
        wanted = allowed.grant.execution
        return allowed if wanted is not None and wanted.wrapper == wrapper else None


def _allowed_on(rights: _Rights, record: JobRecord, decision: Decision, group: CallGroup) -> Permit:
    """Return the permit of a call on a job; if the client may not even read it, raise JobHidden."""
    if not decision.allowed and not rights.reads(record):
        raise JobHidden(record.id, "" if decision.rule is None else decision.rule.name)
    return _allowed(rights, decision, group)


def _allowed(rights: _Rights, decision: Decision, group: CallGroup) -> Permit:
    if not decision.allowed or decision.rule is None:
        raise _denied(rights.rules.client, f"make calls of the group {group.value!r}", decision)
    return Permit(decision.rule.name)


def _denied(client: Client, action: str, decision: Decision) -> AccessDenied:
    rule = "" if decision.rule is None else decision.rule.name
    return AccessDenied(f"{client.name!r} may not {action}: {decision.reason}; {_ADVICE}", rule)
