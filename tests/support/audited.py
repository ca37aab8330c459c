"""A server whose audit log is kept in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from worker.api.bounds import Bounds
from worker.core.audit.record import Event
from worker.core.audit.trail import AuditTrail
from worker.core.testing import MemoryAuditLog

from .audit_page import assert_documented
from .served import Served, serving

PATIENCE = 30.0


@dataclass
class Audited:
    """A server and its records."""

    served: Served
    log: MemoryAuditLog

    def named(self, *events: Event) -> list[dict[str, Any]]:
        """Return the records of some events."""
        return [dict(each) for each in self.log.records if each["event"] in events]

    async def until(self, event: Event, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many records of an event, and return them: an end is noticed later by the server."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.named(event)) < count:
                await asyncio.sleep(0.001)
        return found

    def calls(self) -> list[tuple[Any, ...]]:
        """Return the decisions and outcomes in short."""
        return [
            (each["method"], each["allowed"] if each["event"] == "decision" else each["code"])
            for each in self.named(Event.DECISION, Event.OUTCOME)
        ]


@asynccontextmanager
async def auditing(
    pki: Path, *, bounds: Bounds | None = None, check_period: float = 5.0, **options: Any
) -> AsyncIterator[Audited]:
    """Serve a Worker whose records are kept in memory."""
    log = MemoryAuditLog()
    audit = AuditTrail(log, **options)
    async with serving(pki, bounds=bounds, check_period=check_period, audit=audit) as served:
        yield Audited(served, log)
    assert_documented(log.records)


def facts(path: Path) -> dict[str, Any]:
    """Return what is recorded of a certificate."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    serial = f"{certificate.serial_number:x}"
    return {
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": "0" * (len(serial) % 2) + serial,
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }
