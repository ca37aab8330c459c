"""Which clients the server trusts: its CAs, their CRLs and the denied serials, as one value.

TLS verifies the chain of a client's certificate once. Here it is decided again, at each call and by a
timer, whether the chain is still trusted: time passes, and a reload replaces this value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from math import inf
from typing import NamedTuple

from . import peer_certificate as der
from .identity import serial_text
from .revocation import RevocationList


class ChainCertificate(NamedTuple):
    """A certificate of a chain; the times are in seconds since the epoch."""

    subject: str
    issuer: str
    key: bytes
    serial: int
    not_before: int
    not_after: int

    @property
    def authority(self) -> tuple[str, bytes]:
        """What makes it the same CA as in another certificate: name and key."""
        return self.subject, self.key


class Standing(NamedTuple):
    """Whether a client is trusted: the reason if it is not; it holds from ``since`` until ``until``."""

    refusal: str | None
    since: float = -inf
    until: float = inf

    def holds(self, now: float) -> bool:
        """Whether it is still so, if the trust is the same."""
        return self.since <= now < self.until


@lru_cache(maxsize=256)
def chain_certificate(certificate: bytes) -> ChainCertificate:
    """Return what is needed of a certificate in DER. Raises ValueError."""
    found = der.fields(certificate)
    return ChainCertificate(
        der.distinguished_name(found.subject),
        der.distinguished_name(found.issuer),
        found.key.content,
        found.serial,
        found.not_before,
        found.not_after,
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """The CAs that are trusted, their CRLs by issuer, and the denied serials."""

    authorities: Sequence[ChainCertificate]
    revocation_lists: Mapping[str, Sequence[RevocationList]] = field(default_factory=dict)
    denied: frozenset[int] = frozenset()

    def standing(self, chain: Sequence[ChainCertificate], now: float) -> Standing:
        """Return whether a chain is trusted, which TLS has verified before, its own certificate first."""
        path = self._trusted_path(chain)
        if path is None:
            return Standing("the CA of its certificate is not, or no longer, trusted")
        for position, each in enumerate(path):
            whose = "its certificate" if position == 0 else f"the certificate of its CA {each.subject!r}"
            if refusal := self._refusal(each, whose, now):
                return Standing(refusal)
        ends = [each.not_after + 1 for each in path]
        ends += [crl.next_update for each in path for crl in self.revocation_lists.get(each.issuer, ())]
        return Standing(None, max(each.not_before for each in path), min(ends))

    def _refusal(self, certificate: ChainCertificate, whose: str, now: float) -> str | None:
        if certificate.serial in self.denied:
            return f"{whose} is denied (serial {serial_text(certificate.serial)})"
        for crl in self.revocation_lists.get(certificate.issuer, ()):
            if certificate.serial in crl.revoked:
                return f"{whose} was revoked on {_date(crl.revoked[certificate.serial])}"
            if now >= crl.next_update:
                return f"the CRL of its CA {crl.issuer!r} expired on {_date(crl.next_update)}"
        if now < certificate.not_before:
            return f"{whose} is not valid before {_date(certificate.not_before)}"
        if now >= certificate.not_after + 1:
            return f"{whose} expired on {_date(certificate.not_after)}"
        return None

    def _trusted_path(self, chain: Sequence[ChainCertificate]) -> list[ChainCertificate] | None:
        """Return the chain up to the first CA that is trusted, with the certificate that is trusted now.

        That may be another one than in the handshake, of the same name and key.
        """
        if chain[0] in self.authorities:  # the client's own certificate is listed
            return [chain[0]]
        for position, each in enumerate(chain[1:], start=1):
            if same := [known for known in self.authorities if known.authority == each.authority]:
                return [*chain[:position], max(same, key=lambda known: known.not_after)]
        return None


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
