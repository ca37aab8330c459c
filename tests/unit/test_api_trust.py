"""Trust: which chains are trusted at which time; the reason is in words."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from worker.api.identity import serial_text
from worker.api.pem import revocation_lists_in
from worker.api.revocation import revocation_lists
from worker.api.trust import ChainCertificate, Trust, chain_certificate

from ..support.authorities import Issued, TestCA, now

ROOT = TestCA("root", end=now() + timedelta(days=400))
BETWEEN = TestCA("between", ROOT, end=now() + timedelta(days=200))
ANN = BETWEEN.client("ann", end=now() + timedelta(days=100))
OTHER = TestCA("other")
CHAIN = [ANN, BETWEEN.issued, ROOT.issued]


def parsed(*certificates: Issued) -> list[ChainCertificate]:
    """Return a chain as the server reads it."""
    return [chain_certificate(each.der) for each in certificates]


def trust(*authorities: TestCA, crls: Sequence[bytes] = (), denied: Sequence[Issued] = ()) -> Trust:
    """Return the trust in these CAs."""
    lists = [each for crl in crls for each in revocation_lists_in(crl)]
    return Trust(
        parsed(*(each.issued for each in authorities)),
        revocation_lists(lists, [each.issued.der for each in authorities]),
        frozenset(each.serial for each in denied),
    )


def refusal(of: Trust, chain: Sequence[Issued] = CHAIN, at: datetime | None = None) -> str | None:
    """Return the reason at a time."""
    return of.standing(parsed(*chain), (at or now()).timestamp()).refusal


@pytest.mark.parametrize("authorities", [(ROOT,), (BETWEEN,), (ROOT, BETWEEN), (OTHER, ROOT)])
def test_one_trusted_ca_of_the_chain_is_enough(authorities: tuple[TestCA, ...]) -> None:
    """The root, or an intermediate one without it."""
    assert refusal(trust(*authorities)) is None


def test_a_ca_that_was_withdrawn_is_not_trusted() -> None:
    """Nor is one of the same name with another key."""
    reason = "the CA of its certificate is not, or no longer, trusted"
    assert reason == refusal(trust(OTHER))
    assert reason == refusal(trust(TestCA("root"), TestCA("between", ROOT)))


def test_a_renewed_ca_replaces_the_one_that_expires() -> None:
    """The certificate that is trusted now counts, if name and key are the same."""
    later = now() + timedelta(days=250)
    renewed = TestCA("between", ROOT, key=BETWEEN.issued.key, end=now() + timedelta(days=300))
    leaf = BETWEEN.client("ann", end=now() + timedelta(days=300))
    chain = [leaf, BETWEEN.issued, ROOT.issued]
    assert f"the certificate of its CA 'CN=between' expired on {day(BETWEEN)}" == refusal(
        trust(BETWEEN), chain, later
    )
    assert refusal(trust(renewed), chain, later) is None
    assert refusal(trust(BETWEEN, renewed), chain, later) is None


def day(of: TestCA | Issued) -> str:
    """Return the end of a certificate as the reason shows it."""
    certificate = of if isinstance(of, Issued) else of.issued
    return f"{certificate.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"


def test_dates_of_the_whole_chain_count() -> None:
    """The first certificate that is not valid is named."""
    end = ANN.certificate.not_valid_after_utc
    assert refusal(trust(ROOT), at=end) is None
    assert f"its certificate expired on {day(ANN)}" == refusal(trust(ROOT), at=end + timedelta(seconds=1))
    early = refusal(trust(ROOT), at=now() - timedelta(days=2))
    assert early is not None
    assert early.startswith("its certificate is not valid before ")


def test_a_denied_serial_is_refused() -> None:
    """That of a client, or of an intermediate CA."""
    assert f"its certificate is denied (serial {serial_text(ANN.serial)})" == refusal(
        trust(ROOT, denied=[ANN])
    )
    reason = refusal(trust(ROOT, denied=[BETWEEN.issued]))
    assert reason is not None
    assert reason.startswith("the certificate of its CA 'CN=between' is denied")


def test_a_revoked_certificate_is_refused() -> None:
    """That of a client, or of an intermediate CA; the reason has the time."""
    client = refusal(trust(ROOT, BETWEEN, crls=[BETWEEN.crl([ANN])]))
    assert client is not None
    assert re.fullmatch(r"its certificate was revoked on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", client)
    ca = refusal(trust(ROOT, crls=[ROOT.crl([BETWEEN.issued])]))
    assert ca is not None
    assert ca.startswith("the certificate of its CA 'CN=between' was revoked on ")


def test_an_intermediate_ca_that_is_trusted_itself_can_be_revoked() -> None:
    """A CRL of the root counts also if the chain ends below it."""
    of = trust(ROOT, BETWEEN, crls=[ROOT.crl([BETWEEN.issued])])
    assert "was revoked on" in (refusal(of, [ANN, BETWEEN.issued]) or "")


def test_an_expired_crl_refuses_the_clients_of_its_ca_only() -> None:
    """What may have been revoked since is unknown; clients of a CA without a CRL are not concerned."""
    bob = OTHER.client("bob")
    end = now() - timedelta(days=1)
    of = trust(BETWEEN, OTHER, crls=[BETWEEN.crl(begin=end - timedelta(days=1), end=end)])
    assert f"the CRL of its CA 'CN=between' expired on {end:%Y-%m-%d %H:%M:%S} UTC" == refusal(of)
    assert refusal(of, [bob, OTHER.issued]) is None


def test_a_listed_certificate_of_a_client_is_trusted_itself() -> None:
    """But no other one of the same name and key: its serial may be denied."""
    of = Trust(parsed(ANN), denied=frozenset())
    assert of.standing(parsed(ANN), now().timestamp()).refusal is None
    again = Issued(BETWEEN.client("ann").certificate, ANN.key)
    assert of.standing(parsed(again, BETWEEN.issued), now().timestamp()).refusal is not None


def test_the_decision_holds_until_something_ends() -> None:
    """The earliest of the certificates' ends and of the next updates of their CRLs."""
    at = now().timestamp()
    standing = trust(ROOT).standing(parsed(*CHAIN), at)
    assert ANN.certificate.not_valid_after_utc.timestamp() + 1 == standing.until
    assert max(each.not_before for each in parsed(*CHAIN)) == standing.since
    soon = now() + timedelta(hours=1)
    of = trust(ROOT, crls=[ROOT.crl(end=soon)])
    assert soon.timestamp() == of.standing(parsed(*CHAIN), at).until
    assert datetime.fromtimestamp(standing.until, UTC) > soon
