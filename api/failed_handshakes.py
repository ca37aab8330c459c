"""Records of failed handshakes. Anybody can cause them, so they must not displace the other records.

The first failure of an address is recorded at once. Others of the same address and reason within the
interval are counted, and recorded together when it is over.
"""

import asyncio

from ..core.audit.record import AuditRecord, Event
from ..core.audit.trail import AuditTrail

INTERVAL = 60.0
"""Seconds in which the failures of one address are counted."""

MOST_ADDRESSES = 1000
"""Addresses and reasons that are counted separately; those of all others are counted together."""

OTHERS = "others"


class FailedHandshakes:
    """Records the failed handshakes of a server."""

    def __init__(self, trail: AuditTrail, *, interval: float = INTERVAL) -> None:
        self._trail = trail
        self._interval = interval
        self._counted: dict[tuple[str, str], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, address: str, reason: str) -> None:
        """Record the failed handshake of a client of which only the address is known."""
        key = address, reason
        if key not in self._counted and len(self._counted) >= MOST_ADDRESSES:
            key = OTHERS, OTHERS
        found = self._counted.get(key)
        if found is None:
            self._counted[key] = 0
            self._write(address, reason, 1)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._interval, self.summarize)
        else:
            self._counted[key] = found + 1

    def summarize(self) -> None:
        """Record the failures that were only counted, and begin to count again."""
        counted, self._counted = self._counted, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (address, reason), number in counted.items():
            if number:
                self._write(address, reason, number)

    def _write(self, address: str, reason: str, number: int) -> None:
        record: AuditRecord = {"address": address, "reason": reason, "count": number}
        self._trail.write(Event.HANDSHAKE_FAILED, record)
