"""CRLs and denied serials: read completely, or rejected with the reason."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from worker.api.identity import serial_text
from worker.api.pem import certificates_in, revocation_lists_in
from worker.api.revocation import denied_in_file, denied_serials, revocation_lists

from ..support.authorities import TestCA, now

CA = TestCA("the CA")
OTHER = TestCA("another CA")
ANN, BOB = CA.client("ann"), CA.client("bob")


@given(serials=st.sets(st.integers(1, 2**160 - 1), max_size=5))
def test_denied_serials_as_worker_and_openssl_write_them(serials: set[int]) -> None:
    """Hex with and without colons, in any case, with `serial=`, comments and empty lines."""
    forms = [
        lambda text: text,
        lambda text: "serial=" + text.upper(),
        lambda text: " " + ":".join(text[i : i + 2] for i in range(0, len(text), 2)) + "\t# left in March",
    ]
    lines = ["# the former employees", ""]
    lines += [forms[position % 3](serial_text(serial)) for position, serial in enumerate(sorted(serials))]
    assert serials == denied_serials("\r\n".join(lines))


@pytest.mark.parametrize("line", ["ann", "0x12", "12 34", "12:3", ":12", "-12", "12,34"])
def test_a_line_that_is_no_serial_is_rejected(line: str) -> None:
    """Nothing is guessed: a serial that is not understood would not be denied."""
    with pytest.raises(ValueError, match=r"^line 2: .* is not a serial in hex$"):
        denied_serials(f"0a\n{line}\n")


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_list_without_its_end_is_rejected(cut: int) -> None:
    """The beginning of a serial is another serial: half of a list would deny the wrong one."""
    assert frozenset({0x0A, 0x0BCD}) == denied_in_file(b"0a\n0bcd\n")
    assert frozenset() == denied_in_file(b"")
    with pytest.raises(ValueError, match="its last line has no end"):
        denied_in_file(b"0a\n0bcd\n"[:-cut])


@given(st.integers(1, 2 * len(CA.crl()) - 2))
def test_a_file_that_ends_within_a_block_is_rejected(size: int) -> None:
    """Nothing of it counts, also not the blocks before: what is missing would not be revoked."""
    crl = CA.crl()
    part = (crl + crl)[:size]
    if part.rstrip() == crl.rstrip():
        return
    with pytest.raises(ValueError, match="no end; the file is not complete"):
        revocation_lists_in(part)


def lists(*crls: bytes, authorities: tuple[TestCA, ...] = (CA, OTHER)) -> dict[str, list[set[int]]]:
    """Return the revoked serials of each CRL by issuer."""
    data = [each for crl in crls for each in revocation_lists_in(crl)]
    found = revocation_lists(data, [each.issued.der for each in authorities])
    return {issuer: [set(each.revoked) for each in several] for issuer, several in found.items()}


def test_a_file_may_contain_certificates_and_crls() -> None:
    """Each kind is found between text and blocks of other kinds."""
    data = b"text\n" + CA.issued.pem + CA.crl([ANN]) + b"more text\n" + OTHER.issued.pem + OTHER.crl()
    assert [CA.issued.der, OTHER.issued.der] == certificates_in(data)
    assert {"CN=the CA": [{ANN.serial}], "CN=another CA": [set()]} == lists(data)


def test_of_two_crls_of_a_ca_the_newer_one_counts() -> None:
    """Their order in the file does not matter."""
    old = CA.crl([ANN], begin=now() - timedelta(days=30))
    new = CA.crl([BOB])
    assert {"CN=the CA": [{BOB.serial}]} == lists(old, new) == lists(new, old)


def test_crls_of_two_cas_with_the_same_name_count_together() -> None:
    """A CA that has changed its key has two CRLs: the older one still revokes."""
    later = TestCA("the CA")
    old = CA.crl([ANN], begin=now() - timedelta(days=3))
    found = lists(old, later.crl([BOB]), authorities=(CA, later))
    assert [{ANN.serial}, {BOB.serial}] == sorted(found["CN=the CA"], key=lambda each: each != {ANN.serial})


def test_crls_for_parts_of_the_certificates_count_together() -> None:
    """A CA may write one CRL for users and one for CAs."""
    users = scope(only_contains_user_certs=True)
    authorities = scope(only_contains_ca_certs=True)
    found = lists(
        CA.crl([ANN], extensions=[(users, True)]), CA.crl([BOB], extensions=[(authorities, True)])
    )
    assert [[ANN.serial], [BOB.serial]] == [sorted(each) for each in found["CN=the CA"]]


def scope(**given: bool) -> x509.IssuingDistributionPoint:
    """Return the extension that says what a CRL covers."""
    usual = {
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    place = [x509.UniformResourceIdentifier("http://ca.example/crl")]
    return x509.IssuingDistributionPoint(
        full_name=place, relative_name=None, only_some_reasons=None, **(usual | given)
    )


@pytest.mark.parametrize(
    ("crl", "message"),
    [
        (CA.crl(key=OTHER.issued.key), "the CRL of CN=the CA is not signed with the key of that CA"),
        (TestCA("x").crl(), "there is a CRL of CN=x, but no certificate of that CA"),
        (CA.crl(extensions=[(scope(indirect_crl=True), True)]), "is indirect or partial"),
        (CA.crl(extensions=[(x509.DeltaCRLIndicator(1), True)]), r"critical extension 2\.5\.29\.27"),
    ],
    ids=["signature", "unknown issuer", "indirect", "delta"],
)
def test_a_crl_that_cannot_be_used_is_rejected(crl: bytes, message: str) -> None:
    """It is not ignored: what it revokes would be accepted."""
    with pytest.raises(ValueError, match=message):
        lists(crl)


@pytest.mark.parametrize("data", [b"", b"garbage", CA.issued.der])
def test_another_file_is_no_crl(data: bytes) -> None:
    """Whatever is in the block, the error is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        revocation_lists([data], [CA.issued.der])


def test_a_block_that_is_not_base64_is_rejected() -> None:
    """It is not skipped."""
    broken = CA.crl().replace(b"CRL-----\nM", b"CRL-----\n!")
    with pytest.raises(ValueError, match="not in PEM format"):
        revocation_lists_in(broken)


def test_the_crl_of_openssl_is_read(tmp_path: Path) -> None:
    """A CRL that `openssl ca -gencrl` writes has the same content."""
    import subprocess

    CA.issued.write(tmp_path, "ca")
    (tmp_path / "index.txt").write_text(
        f"R\t350101000000Z\t260101000000Z\t{serial_text(ANN.serial).upper()}\tunknown\t/CN=ann\n"
    )
    (tmp_path / "number").write_text("01\n")
    (tmp_path / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=x\n[x]\ndatabase={tmp_path}/index.txt\ncrlnumber={tmp_path}/number\n"
        "default_md=sha256\ndefault_crl_days=30\n"
    )
    command = ["openssl", "ca", "-gencrl", "-config", str(tmp_path / "openssl.cnf")]
    command += ["-cert", str(tmp_path / "ca.crt"), "-keyfile", str(tmp_path / "ca.key")]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    assert {"CN=the CA": [{ANN.serial}]} == lists(made)
    assert x509.load_pem_x509_crl(made).public_bytes(Encoding.DER) == revocation_lists_in(made)[0]
