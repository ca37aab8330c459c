"""When certificates and CRLs end, and from when on the server warns of it."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from .identity import Caller
from .tls import CRL_WARNING_DAYS, WARNING_DAYS

_DAY = 86400

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When something ends, in seconds since the epoch; ``warn_at``: from when on the server warns."""

    what: str
    end: int
    warn_at: int

    def warning(self, now: float) -> str | None:
        """Return a warning if the end is near."""
        if now < self.warn_at:
            return None
        tense = "expired" if now > self.end else "expires"
        return f"{self.what} {tense} on {datetime.fromtimestamp(self.end, UTC):%Y-%m-%d %H:%M:%S} UTC"


def of_certificate(what: str, end: int) -> Expiry:
    """Return when a certificate ends."""
    return Expiry(what, end, end - WARNING_DAYS * _DAY)


def of_crl(issuer: str, end: int) -> Expiry:
    """Return when a CRL ends."""
    return Expiry(f"the CRL of {issuer!r}", end, end - CRL_WARNING_DAYS * _DAY)


class ClientExpiries:
    """Warns of certificates of clients that end soon: of each once a day, of ``most`` in a day."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._warned: dict[str, float] = {}  # when, by fingerprint, the oldest first

    def connected(self, caller: Caller, now: float) -> None:
        """Warn of the certificate of a client that is connected."""
        certificate = caller.certificate
        what = f"the certificate of the client {caller.name!r}, serial {certificate.serial_hex},"
        warning = of_certificate(what, certificate.not_after).warning(now) if caller.name else None
        if warning is None:
            return
        while self._warned and not 0 <= now - next(iter(self._warned.values())) < _DAY:
            del self._warned[next(iter(self._warned))]
        if certificate.fingerprint in self._warned or len(self._warned) >= self._most:
            return
        self._warned[certificate.fingerprint] = now
        log.warning("%s", warning)
        if len(self._warned) == self._most:
            log.warning("of more clients' certificates that expire soon there is no warning today")
