"""Checks of certificates, of their keys, of the CA's key and of what revokes certificates."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ...api.ca_key_path import key_path
from ...api.revocation import denied_in_file
from ...api.tls import CRL_WARNING_DAYS, WARNING_DAYS, validity
from ...client.errors import SettingsError
from ...client.settings import ClientSettings
from ..home import Home
from ..replaceable_files import how_unprotected
from .findings import Finding, missing, ok, warning


def check_certificates(home: Home, client: ClientSettings) -> Iterator[Finding]:
    """Check certificates, modes of keys, the place of the CA's key, the CRL and denied serials.

    ``client`` may select a certificate that is elsewhere.
    """
    yield from check_own_certificate(home, client)
    if not home.pki.exists():
        yield warning(
            "certificates", f"none in {home.pki}", "`worker up` or `worker certs init` creates them"
        )
        return
    names = {"ca", "server"} | {path.stem for path in home.pki.glob("*.crt")}
    for name in sorted(names):
        key = key_path(home.pki) if name == "ca" else home.pki / f"{name}.key"
        yield _check_certificate(f"certificate {name}", home.pki / f"{name}.crt", key)
    yield from _check_replaceable(home)
    yield from _check_place_of_key(home)
    yield from _check_revocation(home)


def check_own_certificate(home: Home, client: ClientSettings) -> Iterator[Finding]:
    """Check the client's certificate, if it is elsewhere."""
    if (own := own_certificate(home, client)) is not None:
        yield _check_certificate("your certificate", *own)


def own_certificate(home: Home, client: ClientSettings) -> tuple[Path, Path] | None:
    """Return certificate and key of the client, None if they are in the home, or if there are none."""
    try:
        certificate, key = client.own
    except SettingsError:  # the check of the server reports it
        return None
    return None if certificate.parent == home.pki else (certificate, key)


def _check_certificate(subject: str, certificate: Path, key: Path) -> Finding:
    try:
        _, last = validity(certificate)
    except OSError as error:
        return missing(subject, f"{certificate}: {error.strerror}", _replacement(certificate))
    except ValueError:
        return missing(subject, f"{certificate} is not a certificate", _replacement(certificate))
    days = (last - datetime.now(UTC)).days
    renewal = f"`worker certs renew {certificate.stem}` replaces it"
    if days < 0:
        return missing(subject, f"expired on {last:%Y-%m-%d}", renewal)
    text = f"valid for {days} days, until {last:%Y-%m-%d}"
    if days < WARNING_DAYS:
        return warning(subject, text, renewal)
    if key.exists() and key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warning(subject, f"{text}, but other users have access to its key", f"chmod 600 {key}")
    return ok(subject, text)


def _replacement(certificate: Path) -> str:
    match certificate.stem:
        case "ca":
            return (
                f"move {certificate.parent} and {key_path(certificate.parent)} away; `worker certs init` "
                "creates a new CA and new certificates"
            )
        case "server":
            return f"{_after_moving(certificate)}`worker certs issue server --server` creates new ones"
        case name:
            return f"{_after_moving(certificate)}`worker certs issue {name} --role ROLE` creates new ones"


def _after_moving(certificate: Path) -> str:
    """Return the first step of a remedy: what exists of a certificate and its key is never overwritten."""
    found = [str(path) for path in (certificate, certificate.with_suffix(".key")) if path.exists()]
    return f"move {' and '.join(found)} away; " if found else ""


def _check_replaceable(home: Home) -> Iterator[Finding]:
    """Check that other users cannot replace the files that decide which clients are accepted."""
    for name in ("ca.crt", "server.crt", "server.key", "ca.crl", "denied"):
        with suppress(OSError):
            if found := how_unprotected(home.pki / name):
                yield warning("files of the server", found.problem, found.remedy)
                return


def _check_place_of_key(home: Home) -> Iterator[Finding]:
    """The server reads the directory of certificates; it never signs."""
    key = home.pki / "ca.key"
    if key.exists():
        place = home.path / "ca"
        yield warning(
            "CA key",
            f"{key} is beside the files of the server, which does not need it",
            f"mkdir -m 700 {place} && mv {key} {place}, or move it to another machine",
        )
    elif key_path(home.pki).exists():
        yield ok("CA key", f"{key_path(home.pki)}, which no server reads")


def _check_revocation(home: Home) -> Iterator[Finding]:
    denied, crl = home.pki / "denied", home.pki / "ca.crl"
    if denied.exists():
        try:
            count = len(denied_in_file(denied.read_bytes()))
        except (OSError, ValueError) as error:
            yield missing("denied serials", f"{denied}: {error}", "correct it; the server does not start")
        else:
            yield ok("denied serials", f"{count} in {denied}")
    if crl.exists():
        yield _check_crl(crl)


def _check_crl(path: Path) -> Finding:
    from cryptography import x509  # noqa: PLC0415 - few have a CRL

    from ...api.x509_errors import as_value_errors  # noqa: PLC0415 - see above

    renewal = "`worker certs crl` renews it"
    try:
        with as_value_errors():
            end = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
    except (OSError, ValueError) as error:
        return missing("CRL", f"{path}: {error}", renewal)
    if end is None:
        return missing("CRL", f"{path} does not state when the next one follows", renewal)
    days = (end - datetime.now(UTC)).days
    if days < 0:
        return missing("CRL", f"{path} expired on {end:%Y-%m-%d}, no client is accepted", renewal)
    text = f"{path} is valid for {days} days, until {end:%Y-%m-%d}"
    return warning("CRL", text, renewal) if days < CRL_WARNING_DAYS else ok("CRL", text)
