"""Checks of the server: whether it answers this client, and what it reports about itself and its jobs."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...api.health_services import AUDIT_SERVICE
from ...api.who_am_i import WhoAmI
from ...client.client import Client
from ...client.errors import ClientError, RpcError, ServerUnreachable
from ...client.settings import ClientSettings
from ...core.model.job import JobStatus
from ...core.policy.calls import CallGroup
from ...linux.recorder.output_bound import BOUND_REACHED
from ..failures import words
from ..terminal.allowed_calls import jobs_of
from ..terminal.show import output_trouble
from .findings import Finding, ok, warning


@dataclass(frozen=True, slots=True)
class _Answers:
    """Who the client is, and what it may read: running jobs, and whether the audit log is written.

    ``audited`` is None if there is no audit log.
    """

    who: WhoAmI
    running: Sequence[JobStatus] = ()
    audited: bool | None = None


def check_server(client: ClientSettings) -> Iterator[Finding]:
    """Check whether the server answers, its audit log and policy, and its running jobs."""
    try:
        found = asyncio.run(_ask(client))
    except ServerUnreachable as error:
        # The reason may end with a remedy.
        reason, _, remedy = error.reason.partition("; ")
        yield warning("server", f"none at {error.address}: {reason}", remedy or "`worker up` starts one")
    except ClientError as error:
        reason, _, remedy = words(error).partition("; ")
        yield warning("server", reason, remedy or "see the server's log")
    else:
        yield ok("server", f"answers at {client.address}")
        if not _may_read(found.who):
            yield cannot_read(found.who)
        yield from _check_audit(audited=found.audited)
        if found.who.policy_trouble:
            yield warning(
                "policy",
                f"the old one stays in force: {found.who.policy_trouble}",
                "correct the file and send SIGHUP to the server",
            )
        for job in found.running:
            if job.output_trouble:
                yield _troubled(job)


def cannot_read(who: WhoAmI) -> Finding:
    """Say who the client is: the server works, and its jobs and its audit log cannot be checked."""
    calls = (
        ", ".join(f"{each.group} ({jobs_of(each, policy=who.policy)})" for each in who.calls) or "nothing"
    )
    text = f"{who.name!r}, roles {', '.join(who.roles) or 'none'}, may call: {calls}"
    if who.policy and who.roles:
        return warning(
            "client",
            f"{text}; the policy gives no {CallGroup.READ}, so jobs and audit log were not checked",
            f"use another client, or add {CallGroup.READ} to the calls of a rule for this one",
        )
    return warning(
        "client",
        f"{text}; jobs and audit log were not checked",
        "use a certificate with a role (`worker certs issue NAME --role ROLE`)",
    )


def _troubled(job: JobStatus) -> Finding:
    remedy = "see `state` above; free some space there"
    if job.output_trouble == BOUND_REACHED:
        remedy = "remove finished jobs, stop others, or raise output_total"
    return warning(f"job {job.record.id}", output_trouble(job.output_trouble), remedy)


def _check_audit(*, audited: bool | None) -> Iterator[Finding]:
    if audited:
        yield ok("audit log", "is written")
    elif audited is not None:
        yield warning(
            "audit log",
            "cannot be written; records are lost, or calls are refused (setting audit_failure)",
            "the server's log has the reason",
        )


def _may_read(who: WhoAmI) -> bool:
    return any(each.group == CallGroup.READ for each in who.calls)


async def _ask(settings: ClientSettings) -> _Answers:
    """Ask for what this client may read. Every client may ask who it is."""
    async with settings.client() as client:
        who = await client.who_am_i()
        if not _may_read(who):
            return _Answers(who)
        return _Answers(who, await client.list(running=True), await _audited(client))


async def _audited(client: Client) -> bool | None:
    try:
        return await client.health(AUDIT_SERVICE)
    except RpcError as error:
        if error.code != "NotFound":
            raise
        return None
