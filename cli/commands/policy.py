"""`worker policy`: checks a policy, and explains what it allows."""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ...api.identity import Identity, read_certificate
from ...api.roles import RIGHTS, Role
from ...api.tls import pem_certificates
from ...core.policy.advice import warnings
from ...core.policy.calls import Call, CallGroup, Client
from ...core.policy.decision import Decision, decide, explain
from ...core.policy.reading import InvalidPolicy
from ...core.policy.rules import Policy
from ...linux.spawner.host_lookup import HostLookup, existing_users
from ..help_page import group
from ..options.job_spec import JOB_COMMAND, invalid_specs_rejected, job_options, job_spec
from ..options.limits import LIMITS, resource_limits
from ..policy_file import check_protection, read_policy, summary
from ..terminal.console import Failure, note, printable, say
from ..terminal.policy_explanation import explanation
from ..terminal.printed_objects import PolicyCheckObject, PolicyExplanationObject
from ..terminal.show import format_option, show_json

_FILE = click.Path(dir_okay=False, path_type=Path)

_default_user_option = click.option(
    "--default-user",
    metavar="USER[:GROUP]",
    envvar="WORKER_DEFAULT_USER",
    show_envvar=True,
    help="User of jobs without --user: the setting of the server.",
)


@group("policy")
def policy() -> None:
    """Check a policy, and explain what it allows."""


@policy.command(
    "check",
    examples=("worker policy check policy.toml", "worker policy check --default-user nobody policy.toml"),
)
@click.argument("file", type=_FILE, metavar="FILE")
@_default_user_option
@format_option("json", prints=PolicyCheckObject)
def check(file: Path, default_user: str | None, form: str | None) -> None:
    """Check a policy: errors, and what is suspicious about it.

    Exits with 1 if the server would reject the file.
    """
    found = _read(file)
    default = existing_users([default_user] if default_user else []).get(default_user or "")
    suspicious = [
        *_unprotected(file),
        *_assumed(default_user),
        *warnings(found, existing_users(found.user_names), default),
    ]
    if form == "json":
        show_json(PolicyCheckObject(rules=len(found.rules), quotas=len(found.quotas), warnings=suspicious))
        return
    for each in suspicious:
        say(printable(f"warning: {each}"))
    say(printable(f"{file}: {summary(found)}"))


@policy.command(
    "explain",
    context_settings=JOB_COMMAND,
    common={"file", "client_name", "roles", "cert", "group", "owner", "default_user", "user", "form"},
    examples=(
        "worker policy explain --policy policy.toml --as ci --role writer -- make",
        "worker policy explain --policy policy.toml --as bob --role writer --call stop --owner alice",
    ),
)
@click.option(
    "--policy",
    "file",
    type=_FILE,
    required=True,
    envvar="WORKER_POLICY",
    show_envvar=True,
    help="The policy.",
)
@click.option("--as", "client_name", metavar="NAME", help="Name of the client.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([each.value for each in Role]),
    help="Role of the client; may be repeated.",
)
@click.option("--issuer", metavar="DN", default="", help="Issuer of the client's certificate.")
@click.option("--cert", type=_FILE, help="A certificate that has name, issuer and roles.")
@click.option(
    "--call",
    "group",
    type=click.Choice([each.value for each in CallGroup]),
    default=CallGroup.START.value,
    show_default=True,
    help="Group of the call.",
)
@click.option("--owner", metavar="NAME", help="Owner of the job of the call.  [default: the client]")
@_default_user_option
@partial(job_options, required=False)
@format_option("json", prints=PolicyExplanationObject)
def explain_command(
    file: Path,
    client_name: str | None,
    roles: tuple[str, ...],
    issuer: str,
    cert: Path | None,
    group: str,
    owner: str | None,
    default_user: str | None,
    form: str | None,
    **job: object,
) -> None:
    """Explain whether a client may start a command: which rule decides, and why others do not match.

    The options of the job are those of `worker start`. With --call, explain another call, on a job of the
    client or of --owner: there is no CMD, and only `update` has options of the job, its limits. Run this
    where the server runs, as its user. Exits with 1 if the call is denied.
    """
    if (client_name is None) == (cert is None) or (cert is not None and (roles or issuer)):
        raise click.UsageError("use either --as with --role and --issuer, or --cert")
    identity = (
        _identity_in(cert) if cert else Identity(client_name or "", issuer, frozenset(map(Role, roles)))
    )
    _check_options(CallGroup(group), owner, job)
    found = _read(file)
    client = Client(identity.name, identity.issuer, frozenset(map(str, identity.roles)))
    if group == CallGroup.START:
        for each in _assumed(default_user):
            note(each)
        call = _start(found, default_user, job)
    else:
        own = owner in {None, client.name}
        with invalid_specs_rejected():
            changes = resource_limits(job) if group == CallGroup.UPDATE else None
        call = Call(CallGroup(group), own, changes=changes)
    decision = decide(found, client, call)
    lines = list(explanation(client, call, owner or client.name, decision, explain(found, client, call)))
    if not identity.may(RIGHTS[call.group]):
        decision = Decision(allowed=False)
        lines[0] = f"denied: no role of the client has the right to {group}, whatever the policy allows"
    if form == "json":
        show_json(
            PolicyExplanationObject(
                allowed=decision.allowed, rule=decision.rule.name if decision.rule else None, lines=lines
            )
        )
    else:
        say("\n".join(map(printable, lines)))
    click.get_current_context().exit(0 if decision.allowed else 1)


def _check_options(group: CallGroup, owner: str | None, job: Mapping[str, object]) -> None:
    """Raise UsageError for what is missing, and for what would not count."""
    if group is CallGroup.START:
        if job["command"] is None:
            raise click.UsageError("name the command, or use --call")
    else:
        source = click.get_current_context().get_parameter_source
        counting = {limit.name for limit in LIMITS} if group is CallGroup.UPDATE else set()
        if any(source(name) is ParameterSource.COMMANDLINE for name in job.keys() - counting):
            raise click.UsageError(
                f"--call {group} has no CMD and no options of a job{' but limits' * bool(counting)}"
            )
    if owner is not None and group in {CallGroup.START, CallGroup.ADMIN}:
        raise click.UsageError(f"--call {group} is about no job, so --owner has no meaning")


def _start(policy: Policy, default_user: str | None, job: Mapping[str, Any]) -> Call:
    secrets = frozenset(job["secrets"])
    spec = job_spec({name: value for name, value in job.items() if name not in {"request_id", "secrets"}})
    facts = HostLookup(default_user).facts(spec, policy)
    return Call(CallGroup.START, start=replace(facts, secrets=secrets))


def _read(file: Path) -> Policy:
    try:
        return read_policy(file)
    except InvalidPolicy as error:
        raise Failure(printable(str(error))) from None


def _unprotected(file: Path) -> list[str]:
    """Return what a server has against the file itself."""
    try:
        check_protection(file)
    except InvalidPolicy as error:
        return [f"the server rejects the file: {error}"]
    return []


def _assumed(default_user: str | None) -> list[str]:
    """Return what is assumed about the user of jobs without --user, if a server would not."""
    if default_user is not None or os.geteuid() != 0:
        return []
    reason = "no --default-user is given, so root is assumed"
    return [f"{reason}; a server that runs as root needs a default_user when it has a policy"]


def _identity_in(certificate: Path) -> Identity:
    try:
        encoded, *_ = pem_certificates(certificate)
    except OSError as error:
        raise Failure(f"cannot read {certificate}: {error.strerror}") from None
    except ValueError:
        raise Failure(f"{certificate} is not a certificate in PEM format") from None
    return read_certificate(encoded).identity
