"""What the server records of connections and calls.

A call has a decision, before it begins, and an outcome, when it is over; both have the same ``id``. Calls
that change something and streams of output are recorded always, and so is each denial; other calls only
with ``audit_reads``.
"""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import count
from secrets import token_hex

from betterproto2 import Message

from ..core.audit.record import AuditRecord, Event
from ..core.audit.trail import AuditTrail, limits_of
from ..core.errors import InvalidJobSpec
from ..core.model.execution import Execution
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

    def connection_opened(self, caller: Caller) -> Callable[[str], None]:
        """Record a new connection; return what records its end, with a reason if the server ends it."""
        self.trail.write(Event.CONNECTION_OPENED, _certificate(caller))
        return partial(self._connection_closed, caller, time.monotonic())

    def _connection_closed(self, caller: Caller, opened: float, reason: str) -> None:
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
        return AuditedCall(self.trail, method, caller, self._new_id)

    def _new_id(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"


class AuditedCall:
    """The records of one call; ``sent`` and ``received`` count its bytes of output and input."""

    def __init__(
        self, trail: AuditTrail, method: Method, caller: Caller, new_id: Callable[[], str]
    ) -> None:
        streams = isinstance(method, OutputStream | Bidirectional)
        changes = method.right not in {None, Right.READ}
        self._recorded = trail.enabled and (trail.reads or streams or changes)
        self._trail = trail
        self._method = method
        self._caller = caller
        self._begun = time.monotonic()
        self._id = ""
        self._new_id = new_id
        self._job = ""
        self._streams = streams
        self._has_input = False
        self.sent = 0
        self.received = 0

    def allow(self, request: Message, rule: str = "", execution: Execution | None = None) -> None:
        """Record what the call is about to do; raise AuditUnavailable if it may not begin therefore.

        ``rule`` is what allows it, by default the role of the certificate; ``execution`` is what a start
        executes.
        """
        self._job = getattr(request, "job_id", "")
        self._has_input = isinstance(request, proto.AttachOpen) and request.input
        if self._recorded:
            rule = rule or _role(self._caller.identity.roles, self._method.right)
            decision: AuditRecord = {"allowed": True, "rule": rule}
            always = self._method.name in ALWAYS_POSSIBLE
            self._trail.decide(self._decision() | decision | self._asked(request, execution), always=always)

    def deny(self, reason: str, request: Message | None = None, rule: str = "") -> None:
        """Record that the call may not begin, by the ``rule`` if one denies it; this is its last record."""
        self._job = getattr(request, "job_id", "")
        decision: AuditRecord = {"allowed": False, **({"rule": rule} if rule else {}), "reason": reason}
        self._trail.write(Event.DECISION, self._decision() | decision | self._asked(request))
        self._recorded = False

    def end(self, failure: ErrorReply | None = None, *, reply: Message | None = None) -> None:
        """Record how the call ended; without a failure it succeeded."""
        if not self._recorded:
            return
        record: AuditRecord = {
            "id": self._id or self._new_id(),
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
        self._id = self._new_id()
        return {"id": self._id, "method": self._method.name, **_certificate(self._caller)}

    def _asked(self, request: Message | None, execution: Execution | None = None) -> AuditRecord:
        """Return the fields that a request has; they are as the client sent them, valid or not."""
        record = _job(self._job)
        match request:
            case proto.StartRequest():
                record |= self._trail.command(
                    request.name, request.args, request.env, request.working_directory
                )
                if request.secrets:
                    record["secrets"] = [each.name for each in request.secrets]
                record |= self._trail.execution(execution) | _limits(request.limits)
                if request.user:
                    record["user"] = request.user
                if request.job_name:
                    record["job_name"] = request.job_name
            case proto.UpdateRequest():
                record |= _limits(request.limits)
            case proto.SignalRequest(signal=signal) | proto.StopRequest(signal=int(signal)):
                record["signal"] = signal
            case proto.AttachOpen():
                record["input"] = request.input
        return record


def _certificate(caller: Caller) -> AuditRecord:
    """Return all that is known of a client."""
    identity = caller.identity
    return {
        "identity": identity.name,
        "issuer": identity.issuer,
        "roles": sorted(identity.roles),
        "serial": caller.certificate.serial_hex,
        "fingerprint": caller.certificate.fingerprint,
        "address": caller.address,
    }


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
