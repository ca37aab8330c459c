"""The JSON that commands other than `query` and `list` print. Keys may be added, but are never renamed.

`format_option` of a command names the type of what it prints. docs/generate/printed_json.py writes
docs/reference/json.md from these types; tests/integration/test_json.py compares them with what is printed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NotRequired

from .job_object import JobObject  # noqa: TC001 - the generator evaluates the annotations

if TYPE_CHECKING:
    from typing import TypedDict
else:  # to create so many real ones would take milliseconds at the start of each command
    TypedDict = dict

# --- jobs


class StartedObject(TypedDict):
    """A job that was started."""

    id: Annotated[str, "Its id."]


class StoppedObject(TypedDict):
    """A job that was stopped."""

    id: Annotated[str, "Its id."]
    stopped: Annotated[bool, "Always true."]
    output_missing: Annotated[
        int | None, "Bytes of its output that could not be recorded on a full disk; null: not known."
    ]


class SignalledObject(TypedDict):
    """A job that got a signal."""

    id: Annotated[str, "Its id."]
    signal: Annotated[int, "The number of the signal."]
    all: Annotated[bool, "Whether every process got it, or only the main process."]
    sent: Annotated[bool, "Always true."]


class PausedObject(TypedDict):
    """A job that was paused or resumed."""

    id: Annotated[str, "Its id."]
    paused: Annotated[bool, "Whether its processes are frozen."]


class UpdatedObject(TypedDict):
    """A job whose limits were changed."""

    id: Annotated[str, "Its id."]
    updated: Annotated[bool, "Always true."]


class RemovedObject(TypedDict):
    """A job that was removed."""

    id: Annotated[str, "Its id."]
    removed: Annotated[bool, "Always true."]


# --- the diagnosis of a job


class NoAnswerObject(TypedDict):
    """A process that has not answered."""

    error: Annotated[str, "Why not."]


class ProcessIdObject(TypedDict):
    """A process of the server."""

    pid: Annotated[int, "0: it does not run."]


class PlacementObject(TypedDict):
    """The cgroups of a job."""

    unified: Annotated[str | None, "That of v2."]
    legacy: Annotated[list[str], "Those of v1."]
    oom_events: Annotated[str | None, "The file that counts OOM kills."]


class JobProcessObject(TypedDict):
    """A process of a job."""

    pid: Annotated[int, ""]
    state: Annotated[str, "A letter, as in proc_pid_stat(5)."]
    command: Annotated[str, ""]
    before_exec: Annotated[bool, "Whether it does not run the command yet."]


class HolderObject(TypedDict):
    """A process that has files of a job open."""

    pid: Annotated[int, ""]
    command: Annotated[str, ""]
    files: Annotated[list[str], ""]


class RecordedChannelObject(TypedDict):
    """What is recorded of a channel of output."""

    channel: Annotated[str, "output, stdout or stderr."]
    first: Annotated[int, "The offset of the first byte."]
    end: Annotated[int, "The offset after the last byte."]
    in_fifo: Annotated[int | None, "Bytes that wait to be recorded; null: the FIFO is removed."]


class DebugObject(TypedDict):
    """What `worker debug` has found about a job."""

    job: Annotated[str, "Its id."]
    waits_for: Annotated[str, "What it waits for, as a sentence."]
    server: Annotated[JobObject | NoAnswerObject, "What the server says."]
    supervisor: Annotated[
        dict[str, object], "`pid`, and `error` or what the supervisor knows, which depends on the version."
    ]
    recorder: Annotated[ProcessIdObject, ""]
    history: Annotated[list[str], "What is on disk about its life, as sentences."]
    placement: Annotated[PlacementObject | None, ""]
    processes: Annotated[list[JobProcessObject], ""]
    holders: Annotated[list[HolderObject], ""]
    output: Annotated[list[RecordedChannelObject], ""]


# --- servers


class UpObject(TypedDict):
    """A server in the background."""

    address: Annotated[str, "HOST:PORT"]
    started: Annotated[bool, "false: it ran already."]


class DownObject(TypedDict):
    """A server that was stopped."""

    stopped: Annotated[bool, "false: there was none."]
    running_jobs: Annotated[int | None, "How many jobs keep running; null: not known."]


class PingObject(TypedDict):
    """How fast a server answers."""

    server: Annotated[str, "HOST:PORT"]
    version: Annotated[str | None, "null: it reports none."]
    connect_ms: Annotated[float, "Milliseconds to connect and to make the first call."]
    call_ms: Annotated[float, "Milliseconds of the fastest call after that."]


class VersionObject(TypedDict):
    """The versions of both sides."""

    client: Annotated[str, "Of this command."]
    server: Annotated[str | None, "null: it cannot be reached."]


class AllowedCallsObject(TypedDict):
    """A group of calls, and on which jobs a client may make them."""

    group: Annotated[str, "As in a policy."]
    own: Annotated[bool, "On its own jobs."]
    others: Annotated[bool, "On jobs of others."]


class WhoAmIObject(TypedDict):
    """Who a client is to a server."""

    name: Annotated[str, "The name in its certificate."]
    issuer: Annotated[str, "The CA that issued the certificate."]
    roles: Annotated[list[str], ""]
    policy: Annotated[bool, "Whether the server has a policy."]
    calls: Annotated[list[AllowedCallsObject], ""]
    policy_trouble: Annotated[str, "Why the policy that was read last is not in force; for admins."]
    server_version: Annotated[str, "Empty: it reports none."]


class FindingObject(TypedDict):
    """One check of the doctor."""

    verdict: Annotated[str, "ok, warning or missing."]
    subject: Annotated[str, "What was checked."]
    text: Annotated[str, "What was found."]
    remedy: Annotated[str, "What to do; empty if it is ok."]


class DoctorObject(TypedDict):
    """What the doctor has found."""

    ok: Annotated[bool, "Whether nothing required is missing."]
    findings: Annotated[list[FindingObject], ""]


# --- contexts and certificates


class ContextObject(TypedDict):
    """A context in the list of contexts."""

    name: Annotated[str, ""]
    current: Annotated[bool, "Whether commands use it."]
    servers: Annotated[list[str], "HOST:PORT of each server."]


class ContextDetailsObject(TypedDict):
    """A context. `default` has `keys`; each other one has `ca`, `certificate`, `expires` and `key`."""

    name: Annotated[str, ""]
    servers: Annotated[list[str], "HOST:PORT of each server."]
    keys: NotRequired[Annotated[str, "The directory of the keys."]]
    ca: NotRequired[Annotated[str, "The file of the CA of the server."]]
    certificate: NotRequired[Annotated[str, "The file of your certificate."]]
    expires: NotRequired[Annotated[str, "The time at which it expires."]]
    key: NotRequired[Annotated[str, "The file of your key."]]


class JoinedObject(TypedDict):
    """A server that this user can now call."""

    context: Annotated[str, "The name of the new context."]
    server: Annotated[str, "HOST:PORT"]
    ca: Annotated[str, "The file of the CA of the server."]
    certificate: Annotated[str, "The file of your certificate."]
    key: Annotated[str, "The file of your key."]


class CertificateFilesObject(TypedDict):
    """A certificate that was created."""

    certificate: Annotated[str, "Its file."]
    key: NotRequired[Annotated[str, "The file of its key, if that is on this machine."]]
    expires: Annotated[str, "The time at which it expires."]


class RequestFilesObject(TypedDict):
    """A request for a certificate."""

    request: Annotated[str, "Its file."]
    key: NotRequired[Annotated[str, "The file of its key, if that is on this machine."]]


class CertificateObject(TypedDict):
    """What a certificate contains."""

    file: Annotated[str, ""]
    name: Annotated[str, "Its common name: the owner of the jobs of a client."]
    kind: Annotated[str, "CA, server or client."]
    roles: Annotated[list[str], "Of a client."]
    hosts: Annotated[list[str], "Names and addresses of a server."]
    issuer: Annotated[str, ""]
    serial: Annotated[str, "In hex."]
    fingerprint: Annotated[str, "SHA-256."]
    not_before: Annotated[str, "The time from which on it is valid."]
    not_after: Annotated[str, "The time at which it expires."]
    status: Annotated[str, "valid for N days, not yet valid, expired or denied."]


class RevokedObject(TypedDict):
    """Certificates that were denied."""

    serials: Annotated[list[str], "In hex."]
    changed: Annotated[list[str], "The files that were changed."]


class CrlObject(TypedDict):
    """A CRL that was created."""

    crl: Annotated[str, "Its file."]
    days: Annotated[int, "How long it is valid."]


# --- policies


class PolicyCheckObject(TypedDict):
    """What the check of a policy has found."""

    rules: Annotated[int, "The number of rules."]
    quotas: Annotated[int, "The number of quotas."]
    warnings: Annotated[list[str], "What is suspicious about it."]


class PolicyExplanationObject(TypedDict):
    """What a policy decides about a call, and why."""

    allowed: Annotated[bool, ""]
    rule: Annotated[str | None, "The rule that decides; null: none does."]
    lines: Annotated[list[str], "The explanation as the command prints it without -o json."]
