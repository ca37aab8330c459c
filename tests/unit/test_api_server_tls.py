"""The server's files: read together, replaced together, and noticed when they are replaced."""

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest

from worker.api.server_tls import ServerTls, TlsFiles
from worker.api.tls import TlsSetupFailed

from ..support.authorities import TestCA, now, replace
from ..support.served import server_tls

CA = TestCA("the CA")
SERVER = CA.server()


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """The files of a server."""
    SERVER.write(tmp_path, "server")
    (tmp_path / "ca.crt").write_bytes(CA.issued.pem)
    return tmp_path


def test_a_reload_makes_a_new_context(pki: Path) -> None:
    """Nothing of the old one is changed, because connections use it."""
    tls = server_tls(pki)
    before = tls.context_for_next_connection()
    assert before is tls.context_for_next_connection()
    tls.reload()
    assert before is not tls.context_for_next_connection()


def break_file(path: Path) -> None:
    """Make a file unreadable in some way."""
    replace(path, b"\xff\0garbage")


@pytest.mark.parametrize("damage", [break_file, Path.unlink], ids=["broken", "missing"])
@pytest.mark.parametrize("name", ["ca.crt", "server.crt", "server.key", "ca.crl", "denied"])
def test_a_file_that_cannot_be_used_changes_nothing(pki: Path, name: str, damage) -> None:
    """The error names the file, and everything remains as it was; a later reload takes the good files."""
    (pki / "ca.crl").write_bytes(CA.crl())
    (pki / "denied").write_text("0a\n")
    tls = server_tls(pki)
    before, context = tls.trust, tls.context_for_next_connection()
    good = (pki / name).read_bytes()
    damage(pki / name)
    (pki / "other").touch()
    with pytest.raises(TlsSetupFailed, match=re.escape(str(pki / name))):
        tls.reload()
    assert before is tls.trust
    assert context is tls.context_for_next_connection()
    assert not tls.was_replaced()  # it is tried once for each change
    replace(pki / name, good)
    assert tls.was_replaced()
    tls.reload()
    assert context is not tls.context_for_next_connection()


def test_a_server_does_not_start_with_a_file_that_cannot_be_used(pki: Path) -> None:
    """A CRL or a list that a setting names must exist."""
    for name in ("crl", "denied"):
        files = TlsFiles(pki / "ca.crt", pki / "server.crt", pki / "server.key", **{name: pki / "missing"})
        with pytest.raises(TlsSetupFailed, match=f"cannot read {pki / 'missing'}"):
            ServerTls(lambda files=files: files)
    (pki / "ca.crl").write_text("no CRL")
    with pytest.raises(TlsSetupFailed, match=r"ca\.crl: it contains no CRL"):
        server_tls(pki)


@pytest.mark.parametrize("name", ["ca.crt", "server.crt", "server.key", "denied"])
def test_a_replaced_file_is_noticed(pki: Path, name: str) -> None:
    """Also if it appears later, and if its inode could be the number of an earlier one."""
    tls = server_tls(pki)
    for _ in range(3):
        assert not tls.was_replaced()
        replace(pki / name, (pki / name).read_bytes() if (pki / name).exists() else b"")
        assert tls.was_replaced()
        tls.reload()
    assert not tls.was_replaced()


def test_a_link_that_points_elsewhere_is_noticed(pki: Path) -> None:
    """Kubernetes replaces all files of a secret in this way."""
    (pki / "one").mkdir()
    (pki / "two").mkdir()
    for each in ("one", "two"):
        (pki / each / "ca.crt").write_bytes(CA.issued.pem)
    (pki / "current").symlink_to("one")
    link = pki / "current" / "ca.crt"
    tls = ServerTls(lambda: TlsFiles(link, pki / "server.crt", pki / "server.key"), settled=0)
    (pki / "next").symlink_to("two")
    (pki / "next").rename(pki / "current")
    assert tls.was_replaced()


def test_a_new_file_is_read_when_it_is_complete(pki: Path) -> None:
    """install(1) writes into the new file; nothing is read as long as it was written a moment ago."""
    tls = ServerTls(lambda: TlsFiles(pki / "ca.crt", pki / "server.crt", pki / "server.key"), settled=1000)
    replace(pki / "ca.crt", CA.issued.pem)
    for name in ("server.crt", "server.key"):
        os.utime(pki / name, (0, 0))
    assert not tls.was_replaced()
    os.utime(pki / "ca.crt", (0, 0))
    assert tls.was_replaced()


def test_half_of_a_write_is_not_read(pki: Path) -> None:
    """A list that is written in place may lack its end: it is read when the server is told to."""
    (pki / "denied").write_text("0a\n0b\n")
    tls = server_tls(pki)
    (pki / "denied").write_text("0a\n")
    assert not tls.was_replaced()
    assert frozenset({10, 11}) == tls.trust.denied
    tls.reload()
    assert frozenset({10}) == tls.trust.denied


def test_a_slow_write_of_a_new_file_is_not_read(pki: Path) -> None:
    """As long as a process has the new file open for writing, it is not read, also not by a signal."""
    (pki / "denied").write_text("0a\n0b\n")
    tls = server_tls(pki)
    (pki / "denied").unlink()
    with (pki / "denied").open("w") as slow:
        slow.write("0a\n")
        slow.flush()
        assert not tls.was_replaced()
        with pytest.raises(TlsSetupFailed, match="denied is being written; write another file, and rename"):
            tls.reload()
        slow.write("0b\n0c\n")
    assert tls.was_replaced()
    assert frozenset({10, 11}) == tls.trust.denied
    tls.reload()
    assert frozenset({10, 11, 12}) == tls.trust.denied


@pytest.mark.parametrize("name", ["denied", "ca.crl", "ca.crt", "server.crt", "server.key"])
def test_half_of_a_file_changes_nothing_until_it_is_complete(pki: Path, name: str) -> None:
    """It is an error, and what was read before stays; it is read again when the rest was written."""
    (pki / "denied").write_text("0a\n0bcd\n")
    (pki / "ca.crl").write_bytes(CA.crl())
    whole = (pki / name).read_bytes()
    tls = server_tls(pki)
    before = tls.trust
    replace(pki / name, whole[:-3])
    assert tls.was_replaced()
    with pytest.raises(TlsSetupFailed, match=re.escape(name)):
        tls.reload()
    assert before is tls.trust
    assert not tls.was_replaced()
    (pki / name).write_bytes(whole)  # in place
    assert tls.was_replaced()
    tls.reload()
    assert before.denied == tls.trust.denied
    assert not tls.was_replaced()


def test_reloads_leave_no_descriptor_open(pki: Path) -> None:
    """The files of the last read only are kept open."""
    tls = server_tls(pki)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        tls.reload()
    assert before == len(os.listdir("/proc/self/fd"))


def test_what_ends_soon_is_warned_of(pki: Path) -> None:
    """From 30 days before the end of a certificate, and from a week before the end of a CRL."""
    day = timedelta(days=1)
    CA.server(end=now() + 40 * day).write(pki, "server")
    (pki / "ca.crl").write_bytes(CA.crl(end=now() + 20 * day))
    tls = server_tls(pki)

    def warnings(days: int) -> list[str]:
        at = (now() + days * day).timestamp() + 60
        return [warning.split()[1] for each in tls.expiries if (warning := each.warning(at))]

    assert [] == warnings(9)
    assert ["server's"] == warnings(10)
    assert ["server's"] == warnings(12)
    assert ["server's", "CRL"] == warnings(13)
    [late] = [each for each in tls.expiries if "server" in each.what]
    assert " expired on " in (late.warning((now() + 41 * day).timestamp()) or "")
