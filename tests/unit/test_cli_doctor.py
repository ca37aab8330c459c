"""The findings of the doctor: control groups, the home, certificates, the service."""

import errno
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from worker.api import certificates
from worker.api.certificates import KeyType
from worker.api.revoking import revoke, write_crl
from worker.api.roles import Role
from worker.api.who_am_i import AllowedCalls, WhoAmI
from worker.cgroups.capabilities import Capabilities, Capability, HierarchyKind
from worker.cli.client_settings import ClientSettings
from worker.cli.commands.doctor import lines
from worker.cli.doctor import cgroup_checks, checks, job_checks, service_checks
from worker.cli.doctor.certificate_checks import check_certificates
from worker.cli.doctor.file_system import FileSystem
from worker.cli.doctor.findings import (
    Finding,
    Verdict,
    missing,
    ok,
    tried,
    warning,
)
from worker.cli.doctor.server_checks import cannot_read
from worker.cli.home import Home
from worker.cli.main import run
from worker.cli.options.limits import LIMITS
from worker.client.address import Address
from worker.linux.spawner import systemd_scope

from ..support.authorities import TestCA, now


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKER_HOME is the directory of the test, and there are no contexts."""
    monkeypatch.setenv("WORKER_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def found(findings: list[Finding], subject: str) -> Finding:
    """Return the finding about one subject."""
    (finding,) = [each for each in findings if each.subject == subject]
    return finding


def capabilities(**changes: object) -> Capabilities:
    """Return the capabilities of a host that supports everything, with these changes."""
    parts: dict[str, object] = {
        "hierarchy": HierarchyKind.V2,
        "controllers": {"memory": Path("/sys/fs/cgroup")},
        "unified": None,
        "delegated": True,
        "usable": Capability(),
        "limits": {"memory.max": Capability(), "memory.high": Capability(), "io": Capability()},
        "cgroup_kill": Capability(),
        "freezer": Capability(),
        "pressure": Capability(),
    }
    return Capabilities(**(parts | changes))  # type: ignore[arg-type]  # each has the type of its part


def cgroup_findings(monkeypatch: pytest.MonkeyPatch, here: Capabilities) -> list[Finding]:
    """Return the findings on a host with these capabilities."""
    monkeypatch.setattr(cgroup_checks, "capabilities", lambda _: here)
    return list(cgroup_checks.check_own_cgroups(Home(Path("/nonexistent"))))


def test_a_host_that_supports_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """All findings are ok; the first has the places of the controllers and the delegation."""
    findings = cgroup_findings(monkeypatch, capabilities())
    assert {Verdict.OK} == {each.verdict for each in findings}
    assert "v2, delegated to this process: memory in /sys/fs/cgroup" == findings[0].text


def test_a_limit_that_cannot_be_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits that protect the machine are required, the others optional; each finding has a remedy."""
    not_here = Capability(available=False, reason="not here", remedy="ask for it")
    limits = {"memory.max": not_here, "memory.high": not_here}
    findings = cgroup_findings(monkeypatch, capabilities(limits=limits))
    assert missing("limit --memory", "not here", "ask for it") == found(findings, "limit --memory")
    assert warning("limit --memory-high", "not here", "ask for it") == found(
        findings, "limit --memory-high"
    )


def test_no_control_groups_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding has the consequences and the remedy."""
    unusable = Capability(available=False, reason="none are writable", remedy="run as root")
    findings = cgroup_findings(monkeypatch, capabilities(usable=unusable))
    reason = "none are writable: no limit can be enforced, and processes can escape"
    assert [missing("control groups", reason, "run as root")] == findings


def test_the_scope_of_the_doctor_itself_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone when the doctor has ended."""
    scope = Path("/sys/fs/cgroup/worker-0a1b2c3d-doctor-00000000.scope")
    here = capabilities(unified=scope, controllers={"cpu": scope, "io": Path("/sys/fs/cgroup/blkio")})
    monkeypatch.setattr(cgroup_checks.probes, "clone_into_cgroup", lambda _: None)
    text = "v2, in a systemd scope, as `worker up` creates one: cpu, io in /sys/fs/cgroup/blkio"
    assert text == cgroup_findings(monkeypatch, here)[0].text


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for systemd-run, which writes its arguments to this file and executes the command."""
    program, arguments = tmp_path / "bin" / "systemd-run", tmp_path / "arguments"
    program.parent.mkdir()
    script = f'echo "$@" >>{arguments}; until [ "$1" = -- ]; do shift; done; shift; exec "$@"'
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd_scope, "is_booted", lambda: True)
    return arguments


def test_control_groups_are_judged_in_a_scope(systemd: Path, tmp_path: Path) -> None:
    """The checks run in a delegated scope where systemd can create one, as a supervisor does."""
    findings = list(cgroup_checks.check_cgroups(Home(tmp_path)))
    assert list(cgroup_checks.check_own_cgroups(Home(tmp_path))) == findings
    probed, judged = systemd.read_text().splitlines()
    assert "Delegate" not in probed
    assert re.search(r"--unit=worker-[0-9a-f]{8}-doctor-[0-9a-f]{8} .*Delegate=yes", judged)


def test_a_scope_that_does_not_work(systemd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host where `worker up` would fail is not judged by the cgroup of the doctor."""
    monkeypatch.setattr(cgroup_checks.sys, "executable", "/nonexistent")
    (finding,) = cgroup_checks.check_cgroups(Home(tmp_path))
    assert (Verdict.MISSING, "control groups") == (finding.verdict, finding.subject)
    assert "/nonexistent" in finding.text


def test_every_limit_of_the_host_has_the_name_of_its_option() -> None:
    """Every limit whose capability is checked has an option, and the reverse."""
    here = cgroup_checks.capabilities("worker-doctor-test")
    assert here.limits.keys() == {limit.capability for limit in LIMITS}


def test_files_that_others_can_replace(tmp_path: Path) -> None:
    """A user who can write to a directory above the files of the server can replace them."""
    pki = tmp_path / "pki"
    certificates.init(pki, key_type=KeyType.P256)
    subject = "files of the server"
    assert subject not in {each.subject for each in check_certificates(Home(tmp_path), ClientSettings())}
    tmp_path.chmod(0o777)
    finding = found(list(check_certificates(Home(tmp_path), ClientSettings())), subject)
    assert f"{tmp_path}, on the way to {pki}/ca.crt, can be written" in finding.text
    assert f"chmod go-w {tmp_path}" == finding.remedy


def test_certificates(tmp_path: Path) -> None:
    """Each is checked: valid, about to expire, expired, missing, malformed, with a readable key."""
    pki = tmp_path / "pki"
    certificates.init(pki, key_type=KeyType.P256)
    for name, days in (("old", -1), ("aging", 10), ("open", 100)):
        certificates.issue(pki, name, [Role.READER], key_type=KeyType.P256, days=days)
    (pki / "server.crt").unlink()
    (pki / "reader.crt").write_text("nonsense")
    (pki / "open.key").chmod(0o644)
    findings = list(check_certificates(Home(tmp_path), ClientSettings()))
    assert {
        "ca": Verdict.OK,
        "writer": Verdict.OK,
        "server": Verdict.MISSING,
        "reader": Verdict.MISSING,
        "old": Verdict.MISSING,
        "aging": Verdict.WARNING,
        "open": Verdict.WARNING,
        "CA key": Verdict.OK,
    } == {each.subject.removeprefix("certificate "): each.verdict for each in findings}
    assert re.fullmatch(
        r"valid for 364 days, until \d{4}-\d\d-\d\d", found(findings, "certificate writer").text
    )
    assert found(findings, "certificate server").remedy.endswith(
        f"move {pki}/server.key away; `worker certs issue server --server` creates new ones"
    )
    assert "`worker certs renew aging` replaces it" == found(findings, "certificate aging").remedy
    assert f"chmod 600 {pki}/open.key" == found(findings, "certificate open").remedy


def test_the_certificate_of_the_client_may_be_elsewhere(tmp_path: Path) -> None:
    """`--cert` names it; one in the home is checked only once."""
    ca, pki = TestCA("the CA"), tmp_path / "pki"
    certificates.init(pki, key_type=KeyType.P256)
    ca.client("ann", end=now() + timedelta(days=10, minutes=1)).write(tmp_path, "ann")
    (tmp_path / "ann.key").chmod(0o600)
    own = ClientSettings(cert=tmp_path / "ann.crt", key=tmp_path / "ann.key")
    finding = found(list(check_certificates(Home(tmp_path), own)), "your certificate")
    assert Verdict.WARNING is finding.verdict
    assert finding.text.startswith("valid for 10 days, until ")
    assert "`worker certs renew ann` replaces it" == finding.remedy
    in_home = ClientSettings(cert=pki / "writer.crt", key=pki / "writer.key")
    assert "your certificate" not in {each.subject for each in check_certificates(Home(tmp_path), in_home)}


def test_where_there_is_only_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a server needs is not missing on a machine that has none; WORKER_HOME asks for it."""
    TestCA("the CA").client("writer").write(tmp_path, "writer")
    settings = ClientSettings(
        Address("127.0.0.1", 1), tmp_path / "ca.crt", tmp_path / "writer.crt", tmp_path / "writer.key"
    )
    home = Home(tmp_path / "none")
    assert "control groups" in [each.subject for each in checks.examine(home, settings)]
    monkeypatch.delenv("WORKER_HOME")
    findings = checks.examine(home, settings)
    assert ["server here", "your certificate", "server"] == [each.subject for each in findings]
    assert all(each.verdict is not Verdict.MISSING for each in findings)
    home.path.mkdir()
    assert "state" in [each.subject for each in checks.examine(home, settings)]


def test_a_client_that_may_not_read_knows_who_it_is() -> None:
    """The reason is the policy, or that the certificate has no role."""
    calls = [AllowedCalls("stop", own=True, others=True)]
    finding = cannot_read(WhoAmI("ann", "CN=ca", ["writer"], policy=True, calls=calls))
    assert finding.text.startswith(
        "'ann', roles writer, may call: stop (all jobs); the policy gives no read"
    )
    finding = cannot_read(WhoAmI("ann", "CN=ca", [], policy=True, calls=[]))
    assert finding.text.startswith("'ann', roles none, may call: nothing; jobs and")
    assert "--role ROLE" in finding.remedy


def test_the_key_of_the_ca_belongs_elsewhere(tmp_path: Path) -> None:
    """Earlier versions kept it beside the files of the server; the remedy is a command."""
    certificates.init(tmp_path / "pki", key_type=KeyType.P256)
    (tmp_path / "ca" / "ca.key").rename(tmp_path / "pki" / "ca.key")
    (tmp_path / "ca").rmdir()
    finding = found(list(check_certificates(Home(tmp_path), ClientSettings())), "CA key")
    assert Verdict.WARNING is finding.verdict
    subprocess.run(finding.remedy.partition(", or")[0], shell=True, check=True)
    assert Verdict.OK is found(list(check_certificates(Home(tmp_path), ClientSettings())), "CA key").verdict
    certificates.issue(tmp_path / "pki", "ann", [Role.READER], key_type=KeyType.P256)


def test_what_revokes_certificates(tmp_path: Path) -> None:
    """A CRL that ends within a week, or has ended, and a list that cannot be read, are reported."""
    pki = tmp_path / "pki"
    certificates.init(pki, key_type=KeyType.P256)

    def verdict(subject: str) -> Verdict:
        return found(list(check_certificates(Home(tmp_path), ClientSettings())), subject).verdict

    for days, expected in ((30, Verdict.OK), (6, Verdict.WARNING)):
        write_crl(pki, days=days)
        assert expected is verdict("CRL")
    yesterday = now() - timedelta(days=1)
    (pki / "ca.crl").write_bytes(TestCA("x").crl(begin=yesterday - timedelta(days=1), end=yesterday))
    assert Verdict.MISSING is verdict("CRL")
    (pki / "ca.crl").unlink()
    revoke(pki, [(10, "ann")])
    assert Verdict.OK is verdict("denied serials")
    (pki / "denied").write_text("ann\n")
    assert Verdict.MISSING is verdict("denied serials")


def test_a_home_that_does_not_exist_yet(tmp_path: Path) -> None:
    """The file system where it would be is checked, and nothing is created."""
    home = Home(tmp_path / "not" / "yet")
    (finding,) = checks.check_state(home)
    assert finding.text.startswith(f"{home.path} on ")
    assert [] == list(tmp_path.iterdir())


def test_recording_is_tried_without_a_trace(tmp_path: Path) -> None:
    """The operations of the recorder are tried in the home, and leave no file."""
    assert ok("recording", "works") == found(list(checks.check_state(Home(tmp_path))), "recording")
    assert [] == list(tmp_path.iterdir())


def test_a_read_only_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A read-only file system cannot store the state, and recording is not tried."""
    remote = FileSystem("iso9660", 1 << 30, read_only=True)
    monkeypatch.setattr(checks, "file_system", lambda _: remote)
    (finding,) = checks.check_state(Home(tmp_path))
    assert f"{tmp_path} on iso9660, 1G free: mounted read-only" == finding.text
    assert Verdict.MISSING is finding.verdict


def test_a_network_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Locks and inotify are unreliable on a network file system."""
    remote = FileSystem("nfs4", 1 << 40, read_only=False)
    monkeypatch.setattr(checks, "file_system", lambda _: remote)
    finding = found(list(checks.check_state(Home(tmp_path))), "state")
    assert Verdict.WARNING is finding.verdict
    assert "on nfs4, 1T free: locks and inotify are unreliable" in finding.text


def test_a_full_disk_needs_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other access and no other file system helps there."""

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checks.probes, "recording", full)
    finding = found(list(checks.check_state(Home(tmp_path))), "recording")
    assert missing("recording", "does not work: No space left on device", finding.remedy) == finding
    assert finding.remedy.startswith("free some space")


def test_scarce_space_has_a_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The remedy says how much space the doctor wants."""
    small = FileSystem("ext4", 1 << 20, read_only=False)
    monkeypatch.setattr(checks, "file_system", lambda _: small)
    finding = found(list(checks.check_state(Home(tmp_path))), "state")
    assert (Verdict.WARNING, True) == (finding.verdict, "less than 1G" in finding.remedy)


def test_a_probe_that_fails() -> None:
    """The finding has the kernel's error and the remedy."""

    def fail() -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    finding = tried("pidfd", fail, missing, "use another kernel")
    assert "does not work: Function not implemented; use another kernel" == finding.message


def test_one_line_for_each_finding() -> None:
    """The verdict comes first, in aligned columns; control characters are escaped."""
    shown = lines([ok("a", "fine"), missing("longer", "not\nthere", "get it")])
    assert ["ok       a       fine", r"missing  longer  not\nthere; get it"] == shown


@pytest.mark.parametrize(("verdict", "status"), [(Verdict.WARNING, 0), (Verdict.MISSING, 1)])
def test_the_exit_status_is_1_if_something_required_is_missing(
    verdict: Verdict,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit status is 0 if there are only warnings."""
    monkeypatch.setattr("worker.cli.commands.doctor.examine", lambda *_: [Finding(verdict, "x", "y", "z")])
    assert status == run(["doctor"])
    assert f"{verdict:<7}  x  y; z\n" == capsys.readouterr().out


def service_findings(monkeypatch: pytest.MonkeyPatch, home: Path, unit: str | None) -> list[Finding]:
    """Return the findings if systemd runs with a supervisor in this unit; None: no supervisor."""
    monkeypatch.setattr(systemd_scope, "is_booted", lambda: True)
    monkeypatch.setattr(systemd_scope, "unit_of", lambda _: unit)
    if unit is not None:
        (home / "supervisor/generation").mkdir(parents=True)
        monkeypatch.setattr(service_checks, "running_supervisors", lambda *_: [4711])
    return list(service_checks.check_service(Home(home)))


def test_jobs_in_a_scope_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The finding is ok if the supervisor is not in the unit of the server."""
    unit = "worker-0a1b2c3d-supervisor-00000000.scope"
    findings = service_findings(monkeypatch, tmp_path, unit)
    assert f"the supervisor runs in {unit}" == found(findings, "jobs outlive the service").text


def test_jobs_in_the_unit_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The warning names the unit that would end the jobs, and the remedy."""
    finding = found(service_findings(monkeypatch, tmp_path, "worker.service"), "jobs outlive the service")
    assert Verdict.WARNING is finding.verdict
    assert "the supervisor runs in worker.service, and its jobs end when that is stopped" == finding.text
    assert finding.remedy


def test_no_systemd_scope_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a supervisor, the doctor tries to create a scope."""

    def refuse() -> None:
        raise systemd_scope.ScopeUnavailable("no bus")

    monkeypatch.setattr(systemd_scope, "probe", refuse)
    finding = found(service_findings(monkeypatch, tmp_path, None), "jobs outlive the service")
    assert (Verdict.WARNING, True) == (finding.verdict, finding.text.endswith("no bus"))
    assert finding.remedy


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EDQUOT, "kernel.keys.maxkeys"),
        (errno.EPERM, "a seccomp filter that allows keyctl"),
        (errno.ENOSYS, "CONFIG_KEYS"),
        (errno.EIO, "see keyctl"),
    ],
)
def test_a_job_without_a_keyring_of_its_own(
    monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """What a job start tolerates is reported with its consequence and the remedy."""

    def refuse() -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(job_checks.probes, "session_keyring", refuse)
    finding = found(list(job_checks.check_jobs(Home(Path("/nonexistent")))), "session keyring")
    assert Verdict.WARNING is finding.verdict
    assert f"a job cannot have one of its own: {os.strerror(number)}; jobs start" in finding.text
    assert remedy in finding.remedy


@pytest.mark.parametrize("present", [True, False])
def test_which_jobs_cannot_get_privileges(monkeypatch: pytest.MonkeyPatch, *, present: bool) -> None:
    """The doctor states which jobs run with no_new_privs."""
    monkeypatch.setattr(job_checks.probes, "has_no_new_privs", lambda: present)
    finding = found(list(job_checks.check_jobs(Home(Path("/nonexistent")))), "no_new_privs")
    assert Verdict.OK is finding.verdict
    assert present == ("set for this process" in finding.text)
