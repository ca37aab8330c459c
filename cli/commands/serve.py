"""`worker serve`: runs the server in the foreground."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE
from pathlib import Path
from time import monotonic_ns

import click

from ...api.authorization import Authorization
from ...api.reflection import Reflection, ReflectionUnavailable
from ...api.server import ApiServer
from ...api.server_tls import ServerTls, TlsFiles
from ...api.tls import TlsSetupFailed
from ...client.address import Address
from ...core.audit.record import Event
from ...core.audit.trail import AuditTrail
from ...core.worker import Worker
from ...linux import crash_points
from ...linux.kernel.locks import lock_holder, open_lock, try_lock
from ...linux.kernel.unfinished_files import unfinished
from ...linux.spawner.host_lookup import HostLookup
from ...linux.state.reserve import Reserve
from ..bootstrap import make_audit, make_worker
from ..help_page import command
from ..home import Home, worker_home
from ..notify import ADDRESS_VARIABLE, Notifier
from ..policy_file import PolicyFile, check_default_user
from ..private_files import correction
from ..replaceable_files import check_tls_file, refusal
from ..server_address import record_address
from ..server_log import log_to_stderr
from ..settings import COMMON_SETTINGS, ServerSettings, resolve, settings_options
from ..terminal.console import Failure

_GARBAGE_COLLECTION = 10_000, 10, 10
"""The default collects after 700 objects, several times for each call."""

_RESERVE_INTERVAL = 10.0
"""Seconds between attempts to fill the reserve."""

log = logging.getLogger(__name__)


@command(
    common=COMMON_SETTINGS,
    examples=("worker serve --listen 0.0.0.0:7443", "worker serve --config /etc/worker/worker.toml"),
)
@settings_options
@click.option("--free-port-if-busy", is_flag=True, hidden=True, help="For `worker up`.")
def serve(config: Path | None, *, free_port_if_busy: bool, **options: object) -> None:
    """Run the server in the foreground.

    Shuts down on SIGTERM or Ctrl-C; jobs keep running, and the next server recovers them. SIGHUP reads
    the certificates and the policy again.
    """
    notifier = Notifier()
    settings = resolve(options, config)
    log_to_stderr(settings.log_level, settings.log_format)
    os.umask(0o077)  # for what libraries create, such as the files of SQLite
    if config is not None and (reason := refusal(config)):
        raise Failure(reason)
    home = worker_home()
    if exposed := home.make():
        log.warning("%s", correction(exposed))
    _allow_many_descriptors()
    crash_points.enable("server")
    os.chdir(home.path)  # does not keep another file system busy, which could then not be unmounted
    with _server_lock(home):
        asyncio.run(_serve(home, settings, notifier, free_port_if_busy=free_port_if_busy))


async def _serve(
    home: Home, settings: ServerSettings, notifier: Notifier, *, free_port_if_busy: bool
) -> None:
    reloading = _requested_by(signal.SIGHUP)  # otherwise the signal would end the server
    tls = _server_tls(home, settings)
    policy = _policy(settings)
    reflection = _reflection() if settings.reflection else None
    audit = make_audit(home, settings.auditing)
    worker = make_worker(home, settings, audit=audit)
    audit.write(Event.SERVER_STARTED, {"pid": os.getpid(), "address": str(settings.listen)})
    reserve = asyncio.create_task(_keep_reserve(home, settings.reserve))
    try:
        await _recover(worker)
        authorization = Authorization(
            worker, None if policy is None else policy.in_force, HostLookup(settings.default_user)
        )
        server = ApiServer(
            worker,
            tls,
            bounds=settings.bounds,
            audit=audit,
            authorization=authorization,
            reflection=reflection,
        )
        if policy is not None:
            policy.watch(server.policy_replaced)
        stopping = _requested_by(signal.SIGTERM, signal.SIGINT)
        address = await _listen(server, settings.listen, free_port_if_busy=free_port_if_busy)
        try:
            record_address(home, address)
        except OSError as error:  # serve even if the disk is full: clients may want to stop jobs
            log.warning("cannot record the address, clients need --server: %s", error)
        log.info("listening at %s", address)
        notifier.send(READY="1", STATUS=f"Listening at {address}", **{ADDRESS_VARIABLE: str(address)})
        reloads = asyncio.create_task(
            _reload_on_request(reloading, server, policy, audit, notifier, address)
        )
        await stopping.wait()
        stopping.clear()
        log.info("shutting down; jobs keep running")
        notifier.send(STOPPING="1", STATUS="Waiting for calls to end")
        await _shut_down(server, settings.shutdown_grace, stopping)
        reloads.cancel()
        await server.close()
    finally:
        reserve.cancel()
        if policy is not None:
            policy.close()
        await worker.close()
        audit.write(Event.SERVER_STOPPED, {"pid": os.getpid()})
        audit.close()


async def _reload_on_request(
    requested: asyncio.Event,
    server: ApiServer,
    policy: PolicyFile | None,
    audit: AuditTrail,
    notifier: Notifier,
    address: Address,
) -> None:
    """Reload what can be reloaded at each request."""
    while True:
        await requested.wait()
        requested.clear()
        # systemd 253 and later, with Type=notify-reload, wait for READY.
        notifier.send(RELOADING="1", MONOTONIC_USEC=str(monotonic_ns() // 1000))
        audit.reopen()
        errors = [await server.reload_certificates(), "" if policy is None else policy.reload()]
        error = "; ".join(filter(None, errors))
        status = f"Listening at {address}" + (f"; the last reload failed: {error}" if error else "")
        notifier.send(READY="1", STATUS=status)


async def _keep_reserve(home: Home, size: int) -> None:
    """Make the reserve, and fill it again whenever there is space. A failure is logged once."""
    reserve, failure = Reserve(str(home.path)), ""
    while True:
        before = failure
        try:
            whole = await asyncio.to_thread(reserve.resize, size)
            failure = "" if whole else "there is too little space for it"
        except OSError as error:
            failure = str(error)
        if failure and failure != before:
            log.warning("the reserve of %d bytes (setting reserve) is not complete: %s", size, failure)
        await asyncio.sleep(_RESERVE_INTERVAL)


def _policy(settings: ServerSettings) -> PolicyFile | None:
    check_default_user(settings.policy, settings.default_user)
    return None if settings.policy is None else PolicyFile(settings.policy)


def _reflection() -> Reflection:
    try:
        return Reflection()
    except ReflectionUnavailable as error:
        remedy = "pip install 'systemd-wrapper[reflection]'"
        raise Failure(f"{error}, which the setting reflection needs: {remedy}") from None


async def _recover(worker: Worker) -> None:
    """Recover all jobs; exclude them from garbage collection, now and later, since they stay."""
    gc.disable()
    await worker.recover()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_COLLECTION)
    gc.enable()


async def _listen(server: ApiServer, wanted: Address, *, free_port_if_busy: bool) -> Address:
    """Listen, and return the address with the actual port."""
    try:
        addresses = await server.start(*wanted)
    except OSError as error:
        if error.errno == EADDRINUSE and free_port_if_busy and wanted.port:
            log.info("%s is in use; taking a free port", wanted)
            return await _listen(server, wanted._replace(port=0), free_port_if_busy=False)
        # asyncio puts the address into strerror as a tuple; the number of a gaierror is not an errno.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Failure(f"cannot listen at {wanted}: {reason}") from error
    return wanted._replace(port=addresses[0][1])


async def _shut_down(server: ApiServer, grace: float, second_request: asyncio.Event) -> None:
    """Wait for calls to end, for at most ``grace`` seconds or until a second request to stop."""
    shutdown = asyncio.ensure_future(server.shut_down(grace))
    interrupted = asyncio.ensure_future(second_request.wait())
    try:
        await asyncio.wait({shutdown, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        shutdown.cancel()
        interrupted.cancel()


def _allow_many_descriptors() -> None:
    """Raise the soft limit to the hard one: each running job and connection needs a descriptor."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _requested_by(*signals: signal.Signals) -> asyncio.Event:
    """Return an event that these signals set from now on."""
    event = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _server_tls(home: Home, settings: ServerSettings) -> ServerTls:
    def files() -> TlsFiles:
        crl, denied = home.pki / "ca.crl", home.pki / "denied"
        return TlsFiles(
            settings.tls_ca or home.pki / "ca.crt",
            settings.tls_cert or home.pki / "server.crt",
            settings.tls_key or home.pki / "server.key",
            settings.tls_crl or (crl if crl.exists() else None),
            settings.tls_denied or (denied if denied.exists() else None),
        )

    try:
        return ServerTls(files, check=check_tls_file, unfinished=unfinished)
    except TlsSetupFailed as error:
        missing = not all(path.exists() for path in files().paths)
        raise Failure(f"{error}" + ("; `worker certs init` creates keys" if missing else "")) from None


@contextmanager
def _server_lock(home: Home) -> Iterator[None]:
    """Lock out other servers of this home; the kernel releases the lock when the process ends."""
    descriptor = open_lock(home.server_lock)
    try:
        if not try_lock(descriptor):
            raise Failure(f"another server uses {home.path}: process {lock_holder(descriptor)}")
        yield
    finally:
        os.close(descriptor)
