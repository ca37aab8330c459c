"""`worker certs`: the commands for the life of a certificate, as processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from worker.api.identity import serial_text

from ..support.authorities import TestCA


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with certificates."""
    done = certs(tmp_path, "init", "--host", "worker.example", "--key-type", "p256")
    assert 0 == done.returncode, done.stderr
    return tmp_path


def certs(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `worker certs`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "worker.cli.main", "certs", *arguments],
        env=os.environ | {"WORKER_HOME": str(home / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def serial(home: Path, name: str) -> str:
    """Return the serial of a certificate."""
    path = home / "home" / "pki" / f"{name}.crt"
    return serial_text(x509.load_pem_x509_certificate(path.read_bytes()).serial_number)


def test_show_describes_certificates(home: Path) -> None:
    """By default all of them, as text or JSON; names may be of files elsewhere."""
    shown = json.loads(certs(home, "show", "-o", "json").stdout)
    assert ["ca", "client", "server", "client"] == [each["kind"] for each in shown]
    reader, server = shown[1], shown[2]
    assert ("reader", ["reader"], serial(home, "reader")) == (
        reader["name"],
        reader["roles"],
        reader["serial"],
    )
    assert reader["issuer"] == shown[0]["issuer"]
    assert reader["status"].startswith("valid for 36")
    assert {"localhost", "127.0.0.1", "worker.example"} <= set(server["hosts"])
    (home / "old.crt").write_bytes(TestCA("another CA").client("eve\x1b[2J").pem)
    text = certs(home, "show", str(home / "old.crt")).stdout
    assert "\x1b" not in text
    assert "issuer       CN=another CA\n" in text


def test_revoke_denies_and_renew_refuses(home: Path) -> None:
    """A certificate by name or file, a serial by itself; show tells it, and it cannot be renewed."""
    (home / "eve.crt").write_bytes(TestCA("another CA").client("eve").pem)
    done = certs(home, "revoke", "reader", str(home / "eve.crt"), "--serial", "0A:0B")
    assert 0 == done.returncode, done.stderr
    assert f"denied reader, serial {serial(home, 'reader')}\n" in done.stdout
    lines = (home / "home" / "pki" / "denied").read_text().splitlines()
    assert 4 == len(lines)
    assert lines[1].startswith(f"{serial(home, 'reader')}  # reader, ")
    assert lines[3].startswith("0a0b  # by serial, ")
    assert "status       denied\n" in certs(home, "show", "reader").stdout
    assert 1 == certs(home, "renew", "reader").returncode
    assert 0 == certs(home, "renew", "writer").returncode


def test_revoke_finds_every_certificate_of_a_name(home: Path) -> None:
    """A certificate that was moved aside for another one of the same client does not keep its access."""
    pki = home / "home" / "pki"
    (pki / "broken.crt").write_text("nothing")
    assert 0 == certs(home, "issue", "bob", "--role", "reader").returncode
    first = serial(home, "bob")
    (pki / "bob.key").unlink()
    refused = certs(home, "issue", "bob", "--role", "writer").stderr
    assert f"{pki}/bob.crt exists; " in refused
    assert "`worker certs revoke bob` first, then move the file away" in refused
    (pki / "bob.crt").rename(pki / "bob-2026.crt")
    assert 0 == certs(home, "issue", "bob", "--role", "writer").returncode
    second = serial(home, "bob")
    denied = json.loads(certs(home, "revoke", "bob", "-o", "json").stdout)
    assert [second, first] == denied["serials"]
    (pki / "bob.crt").unlink()
    assert f"denied bob, serial {first}\n" in certs(home, "revoke", "bob").stdout


def test_renew_adds_names_to_a_server(home: Path) -> None:
    """The key and the earlier names stay; a name that it has is not added again."""
    before = json.loads(certs(home, "show", "server", "-o", "json").stdout)[0]["hosts"]
    done = certs(home, "renew", "server", "--host", "192.0.2.7", "--host", "worker.example")
    assert 0 == done.returncode, done.stderr
    after = json.loads(certs(home, "show", "server", "-o", "json").stdout)[0]["hosts"]
    assert [*before, "192.0.2.7"] == after


def test_rsa_keys_are_never_made_silently(home: Path) -> None:
    """Also where stderr is no terminal; the key is made in the meantime."""
    done = certs(home, "request", "ann")
    assert "worker: creating an RSA key of 4096 bits for ann, which takes seconds\n" == done.stderr
    assert "" == certs(home, "request", "bob", "--key-type", "p256").stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["revoke"], 2, "name a certificate, or use --serial"),
        (["revoke", "nobody"], 1, "there is no certificate "),
        (["revoke", "--serial", "xyz"], 2, "'xyz' is not a serial in hex"),
        (["show", "nobody"], 1, "there is no certificate "),
        (["show", "reader.key"], 1, "there is no certificate "),
        (["renew", "nobody"], 1, "there is no certificate "),
        (["renew", "reader", "--host", "a.example"], 1, "is not the certificate of a server"),
        (["renew", "server", "--host", "a b"], 1, "'a b' is neither a host name nor an IP address"),
        (["request", "reader", "--key-type", "p256"], 1, "reader.crt exists"),
        (["issue", "ann", "--role", "reader", "--csr", "/dev/null"], 1, "the request cannot be read"),
    ],
)
def test_errors_are_one_line(home: Path, arguments: list[str], status: int, message: str) -> None:
    """Each names the problem, and nothing changes."""
    before = sorted((home / "home" / "pki").iterdir())
    done = certs(home, *arguments)
    assert status == done.returncode
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert before == sorted((home / "home" / "pki").iterdir())


def test_the_place_of_the_ca_key_is_shown(home: Path) -> None:
    """The user has to know what to protect."""
    shown = json.loads(certs(home, "show", "ca", "-o", "json").stdout)
    assert "ca" == shown[0]["kind"]
    again = certs(home, "renew", "ca", "-o", "json")
    assert str(home / "home" / "ca" / "ca.key") == json.loads(again.stdout)[0]["key"]
