"""The worker as a systemd service in the guest, with the unit of docs/how-to/service.md."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from .installations import SystemServiceInstallation
from .machine import Guest

UNIT = SystemServiceInstallation.UNIT
GATE = "/tmp/service-gate"
COUNT_UNTIL_GATE = f"n=0; until [ -e {GATE} ]; do echo $n; n=$((n+1)); sleep 0.2; done; echo end; exit 6"
SAY_GOODBYE = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("bye")
raise SystemExit(3)
"""
READ = """
[[rule]]
calls = ["read"]
jobs = "all"
"""
START = """
[[rule]]
calls = ["start", "stop"]
commands = ["*"]
"""
SET_KILL_MODE = f"""
mkdir -p /run/systemd/system/{UNIT}.d
printf '[Service]\\nKillMode=%s\\n' $1 > /run/systemd/system/{UNIT}.d/kill.conf
systemctl daemon-reload
"""
SET_VARIABLE = f"""
mkdir -p /run/systemd/system/{UNIT}.d
printf '[Service]\\nEnvironment=%s\\n' $1 > /run/systemd/system/{UNIT}.d/variable.conf
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def service(guest: Guest) -> Iterator[SystemServiceInstallation]:
    """A running service; nothing remains of it afterwards."""
    made = SystemServiceInstallation(guest)
    made.worker("certs", "init", "--key-type", "p256")
    made.install()
    made.up()
    yield made
    made.down()
    assert [] == made.cgroups()
    made.wait_until("! systemctl list-units --plain --no-legend 'worker-*.scope' | grep .")


def test_jobs_outlive_the_service(service: SystemServiceInstallation) -> None:
    """SIGKILL, daemon-reload, restart, stop and start, with any KillMode: the job continues unaffected."""
    job = service.start("--pids", "7", "sh", "-c", COUNT_UNTIL_GATE)
    (cgroup,), (scope,) = service.cgroups(), service.supervisor_scopes()
    assert cgroup.startswith(f"/system.slice/{scope}/")
    before = service.query(job)
    for blow in (
        f"systemctl kill --signal=KILL {UNIT}; systemctl daemon-reload",
        f"systemctl restart {UNIT}",
        f"set -- mixed; {SET_KILL_MODE} systemctl restart {UNIT}",
        f"set -- process; {SET_KILL_MODE} systemctl stop {UNIT}; systemctl start {UNIT}",
    ):
        server = service.main_process()
        service.guest.check("bash", "-c", blow)
        show = f"systemctl show --property=MainPID --value {UNIT}"
        service.wait_until(f"systemctl is-active --quiet {UNIT} && [ $({show}) != {server} ]")
        inhabitants = service.cgroup_file(f"/system.slice/{UNIT}", "cgroup.procs")
        assert service.main_process() == inhabitants
        assert [scope] == service.supervisor_scopes()
    after = service.query(job)
    assert ("running", before["pid"]) == (after["state"], after["pid"])
    assert "7" == service.cgroup_file(cgroup, "pids.max")
    service.guest.check("touch", GATE)
    lines = service.worker("stream", job).splitlines()
    assert [*(str(number) for number in range(len(lines) - 1)), "end"] == lines
    assert "6\n" == service.worker("wait", job, code=None)
    assert [] == service.cgroups()


def test_jobs_outlive_their_supervisor(service: SystemServiceInstallation) -> None:
    """After its SIGKILL they stay in its scope and are watched; new jobs get another scope."""
    (old,) = service.supervisor_scopes()
    job = service.start("--pids", "7", "sleep", "1000")
    (cgroup,) = service.cgroups()
    service.kill_supervisor()
    service.wait_until("[ $(systemctl list-units --plain --no-legend 'worker-*.scope' | wc -l) = 2 ]")
    new_job = service.start("sleep", "1000")
    (new,) = set(service.supervisor_scopes()) - {old}
    (new_cgroup,) = set(service.cgroups()) - {cgroup}
    assert new_cgroup.startswith(f"/system.slice/{new}/")
    service.worker("update", "--pids", "9", job)
    assert "9" == service.cgroup_file(cgroup, "pids.max")
    service.worker("stop", job)
    assert [new_cgroup] == service.cgroups()
    service.wait_until("[ $(systemctl list-units --plain --no-legend 'worker-*.scope' | wc -l) = 1 ]")
    findings = json.loads(service.worker("doctor", "-o", "json", code=None))["findings"]
    (finding,) = (each for each in findings if each["subject"] == "jobs outlive the service")
    assert ("ok", f"the supervisor runs in {new}") == (finding["verdict"], finding["text"])
    service.guest.check("systemctl", "stop", new)
    assert "143\n" == service.worker("wait", new_job, code=None)


def test_a_reload(service: SystemServiceInstallation) -> None:
    """`systemctl reload` reads policy and denied serials, and writes to a new audit log; no restart."""
    home, policy = service.home, "/etc/worker-policy.toml"
    shell = partial(service.guest.check, "bash", "-c")
    as_reader = [f"--{kind}={home}/pki/reader.{end}" for kind, end in (("cert", "crt"), ("key", "key"))]
    shell(f"cat > {policy} <<< '{READ}'; echo '# nobody' > {home}/pki/denied")
    variables = f"WORKER_POLICY={policy} WORKER_DEFAULT_USER=root"
    shell(f"set -- '{variables}'; {SET_VARIABLE} systemctl restart {UNIT}")
    server = service.main_process()
    serial = json.loads(service.worker("certs", "show", "-o", "json", "reader"))[0]["serial"]
    assert "may not start" in service.worker("start", "true", code=1)

    shell(f"echo '{START}' >> {policy}; echo {serial} >> {home}/pki/denied")
    shell(f"mv {home}/audit.log {home}/audit.old; systemctl reload {UNIT}")
    service.wait_until(f"journalctl -u {UNIT} -o cat | grep -q 'the policy was replaced: 2 rules'")
    job = service.start("true")
    assert f"its certificate is denied (serial {serial})" in service.worker(
        "query", *as_reader, job, code=1
    )
    service.wait_until(f'grep -q \'"method":"Start"\' {home}/audit.log')

    shell(f"echo 'rule = 1' >> {policy}; systemctl reload {UNIT}")
    status = f"systemctl show --property=StatusText --value {UNIT}"
    service.wait_until(f"{status} | grep -q 'the last reload failed: .*{policy}'")
    assert server == service.main_process()
    shell(f"rm {home}/pki/denied {home}/audit.old; set -- A=; {SET_VARIABLE} systemctl restart {UNIT}")


def test_the_audit_log_in_journald(service: SystemServiceInstallation) -> None:
    """Records are entries with fields, which journalctl(1) selects; one of nearly 64 KiB is complete."""
    service.guest.check(
        "bash", "-c", f"set -- WORKER_AUDIT=journald; {SET_VARIABLE} systemctl restart {UNIT}"
    )
    command = ["true", *["\N{GRINNING FACE}" * 1000] * 5]
    job = service.start(*command)
    service.worker("wait", job)
    select = "journalctl -t worker-audit -o cat WORKER_EVENT="
    service.wait_until(f"{select}job_ended | grep {job}")
    (decision,) = map(json.loads, service.guest.check("bash", "-c", f"{select}decision").splitlines())
    assert ("Start", "writer") == (decision["method"], decision["identity"])
    assert command == decision["command"]
    (outcome,) = map(json.loads, service.guest.check("bash", "-c", f"{select}outcome").splitlines())
    assert (decision["id"], job) == (outcome["id"], outcome["job"])
    service.guest.check("bash", "-c", f"set -- A=; {SET_VARIABLE} systemctl restart {UNIT}")


def test_jobs_after_a_clean_reboot(service: SystemServiceInstallation) -> None:
    """Jobs get SIGTERM and time to exit; their exit codes are known, with their last output."""
    job = service.start("python3", "-c", SAY_GOODBYE)
    assert "ready" == service.first_line(job)
    service.guest.reboot()
    facts = service.query(job)
    assert ("exited", 3) == (facts["state"], facts["exit_code"])
    assert "ready\nbye\n" == service.worker("stream", job)
    assert [] == service.cgroups()


def test_jobs_after_a_crash_of_the_machine(service: SystemServiceInstallation) -> None:
    """Jobs that ran are lost, with the reason; finished jobs are known, with their output."""
    ended = service.start("sh", "-c", "echo out; exit 5")
    assert "5\n" == service.worker("wait", ended, code=None)
    running = service.start("sh", "-c", "echo before; exec sleep 1000")
    assert "before" == service.first_line(running)
    service.guest.crash()
    jobs = {job["id"]: job for job in json.loads(service.worker("list", "-o", "json"))}
    assert ("exited", 5) == (jobs[ended]["state"], jobs[ended]["exit_code"])
    assert "out\n" == service.worker("stream", ended)
    assert ("lost", "the machine restarted") == (jobs[running]["state"], jobs[running]["lost_reason"])
    assert "before\n" == service.worker("stream", running)
    assert [] == service.cgroups()
