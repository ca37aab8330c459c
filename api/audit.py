"""What the server records of connections and calls.

A call has a decision, before it begins, and an outcome, when it is over; both have the same ``id``. Calls
that change something and streams of output are recorded always, and so is each denial; other calls only
with ``audit_reads``.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import count
from secrets import token_hex

from betterproto2 import Message

from ..core.audit.record import AuditRecord, Event, KnownFields
from ..core.audit.trail import AuditTrail, limits_of
from ..core.errors import InvalidJobSpec
from ..core.model.execution import Execution
from ..core.model.job import JobSpec
from ..proto import worker as proto
from . import translate_resources as resources
from .errors import ErrorReply
from .grpc.status import Status, code_name
from .identity import Caller
from .methods import Bidirectional, Method, OutputStream
from .roles import Right, Role

ALWAYS_POSSIBLE = frozenset({"Stop", "Remove"})
"""Methods that are served even if they cannot be recorded: they end what goes on, and free the disk."""


class ApiAudit:
    """Records connections and calls in an audit trail."""

    def __init__(self, trail: AuditTrail) -> None:
        self.trail = trail
        self._prefix = token_hex(4)
        self._numbers = count(1)
        self._connected: dict[tuple[str, str], KnownFields] = {}

    def connection_opened(self, caller: Caller) -> Callable[[str], None]:
        """Record a new connection; return what records its end, with a reason if the server ends it."""
        client = self._connected[_key(caller)] = _certificate(caller)
        self.trail.write(Event.CONNECTION_OPENED, {}, client)
        return partial(self._connection_closed, caller, time.monotonic())

    def _connection_closed(self, caller: Caller, opened: float, reason: str) -> None:
        self._connected.pop(_key(caller), None)
        record = _who(caller) | _lasted(opened)
        if reason:
            record["reason"] = reason
        self.trail.write(Event.CONNECTION_CLOSED, record)

    def denied(self, method: Method | None, caller: Caller, reason: str) -> None:
        """Record that a call may not begin; a method that does not exist is no call."""
        if method is not None:
            self.call(method, caller).deny(reason)

    def call(self, method: Method, caller: Caller) -> "AuditedCall":
        """Return the records of a call that has been admitted."""
        return AuditedCall(self, method, caller)

    def client(self, caller: Caller) -> KnownFields:
        """Return all that is known of a client, encoded once for each connection."""
        return self._connected.get(_key(caller)) or _certificate(caller)

    def new_id(self) -> str:
        """Return an id of a call."""
        return f"{self._prefix}-{next(self._numbers)}"


class AuditedCall:
    """The records of one call; ``sent`` and ``received`` count its bytes of output and input."""

    def __init__(self, audit: ApiAudit, method: Method, caller: Caller) -> None:
        trail = audit.trail
        streams = isinstance(method, OutputStream | Bidirectional)
        changes = method.right not in {None, Right.READ}
        self._recorded = trail.enabled and (trail.reads or streams or changes)
        self._audit = audit
        self._trail = trail
        self._method = method
        self._caller = caller
        self._begun = time.monotonic()
        self._id = ""
        self._job = ""
        self._streams = streams
        self._has_input = False
        self.sent = 0
        self.received = 0

    def allow(
        self,
        request: Message,
        rule: str = "",
        execution: Execution | None = None,
        spec: JobSpec | None = None,
    ) -> None:
        """Record what the call is about to do; raise AuditUnavailable if it may not begin therefore.

        ``rule`` is what allows it, by default the role of the certificate. Of a start, ``execution`` is
        what is executed, and ``spec`` the job, if the request was translated already.
        """
        self._job = getattr(request, "job_id", "")
        self._has_input = isinstance(request, proto.AttachOpen) and request.input
        if self._recorded:
            record = self._decision()
            record["allowed"] = True
            record["rule"] = rule or _role(self._caller.identity.roles, self._method.right)
            known = self._asked(request, record, execution, spec)
            self._trail.decide(record, *known, always=self._method.name in ALWAYS_POSSIBLE)

    def deny(self, reason: str, request: Message | None = None, rule: str = "") -> None:
        """Record that the call may not begin, by the ``rule`` if one denies it; this is its last record."""
        self._job = getattr(request, "job_id", "")
        record = self._decision()
        record["allowed"] = False
        if rule:
            record["rule"] = rule
        record["reason"] = reason
        known = self._asked(request, record)
        self._trail.write(Event.DECISION, record, *known)
        self._recorded = False

    def end(self, failure: ErrorReply | None = None, *, reply: Message | None = None) -> None:
        """Record how the call ended; without a failure it succeeded."""
        if not self._recorded:
            return
        record: AuditRecord = {
            "id": self._id or self._audit.new_id(),
            "identity": self._caller.name,
            "method": self._method.name,
            **_job(getattr(reply, "job_id", "") or self._job),
            "code": code_name(Status.OK if failure is None else failure.status),
            **_lasted(self._begun),
        }
        if failure is not None:
            record["message"] = failure.message
        if self._streams:
            record["sent"] = self.sent
        if self._has_input:
            record["received"] = self.received
        self._trail.write(Event.OUTCOME, record)

    def _decision(self) -> AuditRecord:
        self._id = self._audit.new_id()
        return {"id": self._id, "method": self._method.name}

    def _asked(
        self,
        request: Message | None,
        record: AuditRecord,
        execution: Execution | None = None,
        spec: JobSpec | None = None,
    ) -> Sequence[KnownFields]:
        """Add who asks for what, as the client sent it, valid or not; return the fields that are known."""
        client = self._audit.client(self._caller)
        record |= _job(self._job)
        match request:
            case proto.StartRequest():
                if request.secrets:
                    record["secrets"] = [each.name for each in request.secrets]
                record |= self._trail.execution(execution)
                record |= _limits(request.limits) if spec is None else limits_of(spec.limits)
                record |= self._trail.options(request)
                if request.user:
                    record["user"] = request.user
                if request.job_name:
                    record["job_name"] = request.job_name
                command = self._trail.command(
                    request.name, request.args, request.env, request.working_directory
                )
                return client, command
            case proto.UpdateRequest():
                record |= _limits(request.limits)
            case proto.SignalRequest(signal=signal) | proto.StopRequest(signal=int(signal)):
                record["signal"] = signal
            case proto.AttachOpen():
                record["input"] = request.input
        return (client,)


def _key(caller: Caller) -> tuple[str, str]:
    """Return what identifies a client and its connection."""
    return caller.certificate.fingerprint, caller.address


def _certificate(caller: Caller) -> KnownFields:
    identity = caller.identity
    return KnownFields(
        {
            "identity": identity.name,
            "issuer": identity.issuer,
            "roles": sorted(identity.roles),
            "serial": caller.certificate.serial_hex,
            "fingerprint": caller.certificate.fingerprint,
            "address": caller.address,
        }
    )


def _who(caller: Caller) -> AuditRecord:
    return {
        "identity": caller.name,
        "fingerprint": caller.certificate.fingerprint,
        "address": caller.address,
    }


@lru_cache(maxsize=64)
def _role(roles: frozenset[Role], right: Right | None) -> str:
    """Return the rule without a policy: the role that permits the call."""
    return next((f"role:{role}" for role in sorted(roles) if right in role.rights), "")


def _job(job: str) -> AuditRecord:
    return {"job": job} if job else {}


def _lasted(since: float) -> AuditRecord:
    return {"duration": round(time.monotonic() - since, 6)}


def _limits(message: proto.Limits | None) -> AuditRecord:
    try:
        return limits_of(resources.limits_of(message))
    except InvalidJobSpec:  # the call will be refused with the reason
        return {}
