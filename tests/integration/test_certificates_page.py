"""The commands of docs/how-to/certificates.md, in their order, on three machines: CA, server and client."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from worker.api.certificate_details import certificate_details

from ..support.fixtures import Install
from ..support.installation import Installation
from ..support.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "certificates.md").read_text()
STEP = re.compile(r"^(ca|client)\$ (.*)\n(?:(worker: .*?)(?: \(.*)?\n)?", re.MULTILINE)


class Site:
    """The machines. Files that the page tells to copy are copied after each command."""

    def __init__(self, directory: Path, server: Installation) -> None:
        self.server = server
        self.homes = {name: directory / name for name in ("ca", "client")}
        self.desk = directory / "desk"
        self.desk.mkdir()

    def run(self, machine: str, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the page as it stands."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
        env["WORKER_HOME"] = str(self.homes[machine])
        if (self.server.home / "address").exists():
            env["WORKER_SERVER"] = (self.server.home / "address").read_text().strip()
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        done = subprocess.run(
            ["sh", "-c", command], cwd=self.desk, env=env, capture_output=True, text=True, check=False
        )
        self.copy()
        return done

    def copy(self) -> None:
        """Copy requests to the CA, certificates to the client, and what the server reads to the server."""
        ca, client, server = (
            self.homes["ca"] / "pki",
            self.homes["client"] / "pki",
            self.server.home / "pki",
        )
        for request in client.glob("*.csr"):
            shutil.copy(request, self.desk)
        if client.exists():
            for certificate in [ca / "ca.crt", *(ca / f"{key.stem}.crt" for key in client.glob("*.key"))]:
                if certificate.exists():
                    shutil.copy(certificate, client)
        for name in ("ca.crt", "server.crt", "server.key", "denied", "ca.crl"):
            if (ca / name).exists() and not same(ca / name, server / name):
                shutil.copy(ca / name, server / f".{name}.new")
                (server / f".{name}.new").rename(server / name)


def same(one: Path, two: Path) -> bool:
    """Whether two files have the same content."""
    return two.exists() and one.read_bytes() == two.read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The machines; nothing runs yet."""
    server = Installation(tmp_path / "server")
    (server.home / "pki").mkdir(parents=True)
    server.home.chmod(0o700)
    site = Site(tmp_path, server)
    yield site
    for name in ("writer.crt", "writer.key"):  # to stop the server as its tests do
        shutil.copy(site.homes["ca"] / "pki" / name, server.home / "pki")
    server.down()


def test_the_commands_of_the_page(site: Site) -> None:
    """Each command does what the page says; the server notices what was replaced."""
    steps = STEP.findall(PAGE)
    assert len(steps) > 6
    for machine, command, refusal in steps:
        if machine == "client" and "list" in command and not site.server.server_pid():
            assert not (site.server.home / "ca").exists()
            site.server.worker("up")
        if refusal:
            wait_until(lambda: refusal in site.run("client", command).stderr)  # noqa: B023
            continue
        done = site.run(machine, command)
        assert 0 == done.returncode, (command, done.stderr)
    log = (site.server.home / "server.log").read_text()
    assert "'alice', serial " in log
    assert ": refused: its certificate is denied (serial " in log


def test_a_reload_by_signal(install: Install, tmp_path: Path) -> None:
    """SIGHUP reads files that were written in place; a broken one is an error; clients get the reason."""
    import grpc

    from ..support.stock import PATIENCE, Stock, error_of, stubs

    installation = install(tmp_path / "home")
    pki = installation.home / "own"
    shutil.copytree(installation.home / "pki", pki)
    (pki / "denied").write_text("# nobody\n")
    files = [f"--tls-{name}={pki / path}" for name, path in TLS.items()]
    installation.worker("up", *files)
    log = installation.home / "server.log"
    for content, line in (
        ("nonsense\n", "certificates not reloaded, those before remain in force: "),
        ("0a\n", "certificates were reloaded"),
    ):
        (pki / "denied").write_text(content)
        os.kill(installation.server_pid(), signal.SIGHUP)
        wait_until(lambda: line in log.read_text())  # noqa: B023
        installation.worker("list")
    serial = certificate_details(pki / "reader.crt").certificate.serial_hex
    with stubs(tmp_path) as modules:
        stock = Stock((installation.home / "address").read_text().strip(), pki, *modules)
        with stock.channel("reader") as channel:
            query = partial(stock.stub(channel).Query, modules[0].QueryRequest(), timeout=PATIENCE)
            assert grpc.StatusCode.NOT_FOUND == error_of(query)[0]
            (pki / "denied").write_text(f"{serial}\n")
            os.kill(installation.server_pid(), signal.SIGHUP)
            wait_until(lambda: "its certificate is denied" in log.read_text())
            reason = f"the server refuses this client: its certificate is denied (serial {serial})"
            wait_until(lambda: (grpc.StatusCode.UNAUTHENTICATED, reason) == error_of(query))
    installation.worker("list")


TLS = {"ca": "ca.crt", "cert": "server.crt", "key": "server.key", "denied": "denied"}


def test_separate_cas(install: Install, pki: Path, tmp_path: Path) -> None:
    """`tls_ca` has the CA of clients, `--ca` that of servers; neither CA is good for the other side."""
    server, clients = install(tmp_path / "server"), Installation(tmp_path / "clients")
    clients.worker("certs", "init", "--key-type", "p256")
    of_clients = clients.home / "pki"
    own = server.home / "pki"
    shutil.rmtree(own)
    own.mkdir(mode=0o700)
    for directory, name in ((pki, "server"), (of_clients, "writer")):
        shutil.copy(directory / f"{name}.crt", own)
        shutil.copy(directory / f"{name}.key", own)
    shutil.copy(pki / "ca.crt", own)
    server.worker("up", f"--tls-ca={of_clients / 'ca.crt'}")

    def error(ca: Path, certificates: Path) -> str:
        """Return the error of a client that trusts this CA and has a certificate of the other directory."""
        keys = [f"--cert={certificates / 'writer.crt'}", f"--key={certificates / 'writer.key'}"]
        return server.run("list", f"--ca={ca / 'ca.crt'}", *keys).stderr.decode()

    assert "" == error(pki, of_clients)
    assert "it rejects this client's certificate" in error(pki, pki)
    log = (server.home / "server.log").read_text()
    assert "refused: its certificate was not issued by a CA that this server trusts" in log
    assert "its certificate is not accepted" in error(of_clients, of_clients)
