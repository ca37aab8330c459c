"""`worker serve`: the server, in the foreground."""

import asyncio
import gc
import logging
import os
import resource
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from errno import EADDRINUSE
from pathlib import Path

import click

from ...api.bounds import Bounds
from ...api.server import ApiServer
from ...api.tls import TlsSetupFailed, server_context
from ...core.worker import Worker
from ...linux import crash_points
from ...linux.kernel.locks import lock_holder, open_lock, try_lock
from ..bootstrap import make_worker
from ..home import Home, worker_home
from ..notify import ADDRESS_VARIABLE, Notifier
from ..options.address import Address
from ..settings import ServerSettings, resolve, settings_options
from ..terminal.console import Failure, printable

log = logging.getLogger(__name__)


@click.command()
@settings_options
@click.option("--free-port-if-busy", is_flag=True, hidden=True, help="For `worker up`.")
def serve(config: Path | None, *, free_port_if_busy: bool, **options: object) -> None:
    """Run the server in the foreground.

    Ends on SIGTERM or Ctrl-C; jobs run on, and the next server takes them up.
    """
    notifier = Notifier()
    settings = resolve(options, config)
    _log_to_stderr(settings.log_level)
    home = worker_home()
    home.make()
    _allow_many_descriptors()
    crash_points.enable("server")
    os.chdir(home.path)  # keeps no file system busy that somebody wants to unmount
    with _server_lock(home):
        asyncio.run(_serve(home, settings, notifier, free_port_if_busy=free_port_if_busy))


async def _serve(
    home: Home, settings: ServerSettings, notifier: Notifier, *, free_port_if_busy: bool
) -> None:
    tls = _server_tls(home, settings)
    worker = make_worker(home, settings)
    try:
        await _recover(worker)
        server = ApiServer(worker, tls, bounds=_bounds(settings))
        stopping = _stop_signal()
        address = await _listen(server, settings.listen, free_port_if_busy=free_port_if_busy)
        try:
            home.record_address(address)
        except OSError as error:  # a full disk is no reason not to serve; its jobs want to be stopped
            log.warning("the address cannot be recorded, name it with --server: %s", error)
        log.info("listening at %s", address)
        notifier.tell(READY="1", STATUS=f"Listening at {address}", **{ADDRESS_VARIABLE: str(address)})
        await stopping.wait()
        stopping.clear()
        log.info("shutting down; jobs run on")
        notifier.tell(STOPPING="1", STATUS="Waiting for calls to end")
        await _drain(server, settings.shutdown_grace, stopping)
        await server.close()
    finally:
        await worker.close()


async def _recover(worker: Worker) -> None:
    """Take up all jobs without looking for garbage among them, now and later: they are here to stay."""
    gc.disable()
    await worker.recover()
    gc.freeze()
    gc.enable()


async def _listen(server: ApiServer, wanted: Address, *, free_port_if_busy: bool) -> Address:
    """Listen, and return the address with the port that it became."""
    try:
        addresses = await server.start(*wanted)
    except OSError as error:
        if error.errno == EADDRINUSE and free_port_if_busy and wanted.port:
            log.info("%s is busy; taking a free port", wanted)
            return await _listen(server, wanted._replace(port=0), free_port_if_busy=False)
        # asyncio puts the address into strerror as a tuple; a gaierror's number is none of errno(3).
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise Failure(f"cannot listen at {wanted}: {reason}") from error
    return wanted._replace(port=addresses[0][1])


async def _drain(server: ApiServer, grace: float, hurry: asyncio.Event) -> None:
    """Let calls end for so many seconds, or until somebody asks a second time."""
    draining = asyncio.ensure_future(server.drain(grace))
    hurrying = asyncio.ensure_future(hurry.wait())
    try:
        await asyncio.wait({draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        draining.cancel()
        hurrying.cancel()


def _allow_many_descriptors() -> None:
    """Take the hard limit: every job that runs needs one, every connection another."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stop_signal() -> asyncio.Event:
    """Return the event that SIGTERM and Ctrl-C set from now on."""
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


def _bounds(settings: ServerSettings) -> Bounds:
    return Bounds(**{each.name: getattr(settings, each.name) for each in fields(Bounds)})


def _server_tls(home: Home, settings: ServerSettings) -> ssl.SSLContext:
    ca = settings.tls_ca or home.pki / "ca.crt"
    certificate = settings.tls_cert or home.pki / "server.crt"
    key = settings.tls_key or home.pki / "server.key"
    try:
        return server_context(ca=ca, certificate=certificate, key=key)
    except TlsSetupFailed as error:
        missing = not all(path.exists() for path in (ca, certificate, key))
        raise Failure(f"{error}" + ("; `worker certs init` makes keys" if missing else "")) from None


@contextmanager
def _server_lock(home: Home) -> Iterator[None]:
    """Be the only server of this home; the lock ends with the process, however it ends."""
    descriptor = open_lock(home.server_lock)
    try:
        if not try_lock(descriptor):
            raise Failure(f"another server uses {home.path}: process {lock_holder(descriptor)}")
        yield
    finally:
        os.close(descriptor)


class _OneLine(logging.Formatter):
    """An event is a line, whatever names and tracebacks it holds."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Repeats(logging.Filter):
    """Holds back what was said less than a second ago.

    Without descriptors asyncio tells of each failed accept(2), and tries a hundred times in a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = ""
        self._said_at = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message == self._said and 0 <= record.created - self._said_at < 1:
            return False
        self._said, self._said_at = message, record.created
        return True


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("asyncio").addFilter(_Repeats())
