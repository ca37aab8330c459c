"""Tokens, messages and bundles of invitations: what is written is read, anything else is an error."""

import json
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.api.certificate_files import AuthorityMissing, CertificateExists, UnusableName
from worker.api.credentials import Credentials, read_bundle, write_bundle
from worker.api.identity import read_certificate
from worker.api.invitation import Invited, bundle, invitation
from worker.api.invitation_messages import (
    Granted,
    JoinRequest,
    MalformedMessage,
    Offer,
    Refused,
    encode_offer,
    encode_reply,
    encode_request,
    parse_offer,
    parse_reply,
    parse_request,
)
from worker.api.invitation_token import Token, new_token, parse_token
from worker.api.roles import Role
from worker.api.tls import pem_certificates

from ..support.inviting import own_copy

ASCII = st.text(st.characters(max_codepoint=127))
SECRETS = st.binary(min_size=16, max_size=16)


def objects(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Return objects with some of the names of the protocol."""
    names = ["worker_invitation", "ca", "secret", "request", "refused", "certificate", "servers", "x"]
    return st.dictionaries(st.sampled_from(names), values)


JSON = st.recursive(st.none() | st.integers() | ASCII, lambda inner: st.lists(inner) | objects(inner))


@given(SECRETS, st.binary(min_size=32, max_size=32))
def test_a_token_is_read_as_it_was_written(secret: bytes, digest: bytes) -> None:
    """Its text is one word that no command takes for an option, and that shows up in no repr."""
    token = Token(secret, digest)
    assert token == parse_token(str(token))
    assert str(token).startswith("wj1_")
    assert str(token) == "".join(str(token).split())
    assert repr(secret) not in repr(token)


@given(st.text() | st.text("abcXYZ019-_=", min_size=60, max_size=70).map("wj1_".__add__))
def test_other_text_is_no_token(text: str) -> None:
    """It is an error, or the one text of its token."""
    try:
        token = parse_token(text)
    except ValueError:
        return
    assert str(token) == text


def test_a_token_cut_off_is_an_error() -> None:
    """Each shorter or longer text is no token."""
    text = str(new_token(b"ca"))
    for wrong in [*(text[:length] for length in range(len(text))), f"{text}A", f"{text}AAAA", f" {text}"]:
        with pytest.raises(ValueError, match="copy the whole line"):
            parse_token(wrong)


def test_each_token_has_a_new_secret() -> None:
    """Its digest is that of the CA."""
    one, two = new_token(b"ca"), new_token(b"ca")
    assert one.secret != two.secret
    assert one.has_secret(one.secret)
    assert not one.has_secret(two.secret)
    assert not one.has_secret(b"")
    assert one.names(b"ca")
    assert not one.names(b"CA")


@given(st.binary(), SECRETS, ASCII, st.lists(st.text()))
def test_messages_are_read_as_they_were_written(
    data: bytes, secret: bytes, text: str, servers: list[str]
) -> None:
    """Of each kind."""
    assert Offer(data) == parse_offer(encode_offer(Offer(data)))
    request = JoinRequest(secret, text.encode())
    assert request == parse_request(encode_request(request))
    for reply in (Refused(text), Granted(text.encode(), tuple(servers))):
        assert reply == parse_reply(encode_reply(reply))


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_other_messages_are_malformed(message: bytes) -> None:
    """Whatever the bytes are, there is no other error."""
    for parse in (parse_offer, parse_request, parse_reply):
        with suppress(MalformedMessage):
            parse(message)


@given(secret=st.binary())
def test_no_other_secret_gets_a_certificate(pki: Path, secret: bytes) -> None:
    """Of whatever length it is."""
    offered = invitation(pki, Invited("eve", [Role.WRITER], []))
    assert Refused("the token is wrong") == offered.answer(JoinRequest(secret, b""))
    assert not (pki / "eve.crt").exists()


def test_what_would_prevent_the_certificate_is_found_first(pki: Path, tmp_path: Path) -> None:
    """Before anybody gets a token."""
    for name, error in (("writer", CertificateExists), ("a/b", UnusableName)):
        with pytest.raises(error):
            invitation(pki, Invited(name, [Role.WRITER], []))
    with pytest.raises(AuthorityMissing):
        invitation(tmp_path, Invited("ann", [Role.WRITER], []))


def test_a_bundle_has_all_that_a_client_needs(pki: Path, tmp_path: Path) -> None:
    """It says that it has a key, which is nowhere else; only its owner can read it."""
    directory, path = own_copy(pki, tmp_path), tmp_path / "ann.bundle"
    certificate, credentials = bundle(directory, Invited("ann", [Role.READER], ["192.0.2.7:7443"]))
    write_bundle(path, credentials)
    assert 0o600 == S_IMODE(path.stat().st_mode)
    assert "contains a private key" in path.read_text().splitlines()[1]
    assert credentials == read_bundle(path)
    identity = read_certificate(pem_certificates(certificate)[0]).identity
    assert ("ann", {Role.READER}) == (identity.name, identity.roles)
    assert not (directory / "ann.key").exists()


def test_an_existing_file_is_not_overwritten_by_a_bundle(tmp_path: Path) -> None:
    """Nor removed."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        write_bundle(path, Credentials("ann", [], b"", b"", b""))
    assert "precious" == path.read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a bundle"),
        ("[]", "is not a bundle"),
        ("[" * 100_000, "is not a bundle"),
        (" " * (1 << 20), "is not a bundle"),
        ('{"worker_bundle": 2}', "another version"),
        ('{"worker_bundle": 1, "name": "ann"}', "not complete"),
        (
            '{"worker_bundle": 1, "name": "a", "servers": [1], "ca": "", "certificate": "", "key": ""}',
            "not complete",
        ),
    ],
)
def test_other_files_are_no_bundles(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the file."""
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason) as caught:
        read_bundle(path)
    assert str(path) in str(caught.value)
