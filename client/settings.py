"""Which server a client connects to, with which keys, and for how long it reconnects.

Each setting has the first value in this list:

1. the argument of `connect`, or the option of the command
2. WORKER_SERVER, WORKER_CA, WORKER_CERT, WORKER_KEY; not if the context is an argument
3. the context: the argument, else WORKER_CONTEXT, else the current one (client/contexts.py)
4. WORKER_HOME: the address that its server has recorded, and the keys there

A certificate and its key always come from the same place. They are read anew for each connection.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..api.tls import TlsSetupFailed, client_context
from . import contexts
from .address import Address, default_address, parse_address
from .calls import PATIENCE
from .client import Client
from .connection import Connection
from .errors import Disconnection, SettingsError
from .home import Home, home_directory


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The settings that are given; None: the next in the list of this module has the value.

    ``reconnect`` is in seconds: how long to retry after the connection to the server was lost. With the
    context `default`, no context is used.
    """

    server: Address | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    reconnect: float | None = None
    context: str | None = None

    @property
    def patience(self) -> float:
        """How long to retry, in seconds."""
        if self.reconnect is not None:
            return self.reconnect
        text = os.environ.get("WORKER_RECONNECT")
        if not text:
            return PATIENCE
        from ..core.model.duration import parse_duration  # noqa: PLC0415 - few clients need it

        try:
            return parse_duration(text)
        except ValueError as error:
            raise SettingsError(f"WORKER_RECONNECT {text}: {error}") from None

    @property
    def address(self) -> Address:
        """The address of the server; raises SettingsError."""
        return self._selected().server

    @property
    def own(self) -> tuple[Path, Path]:
        """The certificate of the client, and its key; raises SettingsError."""
        selected = self._selected()
        return selected.cert, selected.key

    def client(
        self,
        *,
        on_lost: Callable[[Disconnection], None] = lambda _: None,
        on_back: Callable[[], None] = lambda: None,
    ) -> Client:
        """Return a client that is not connected yet; entering it raises SettingsError without keys."""
        return Client(self._connect, patience=self.patience, on_lost=on_lost, on_back=on_back)

    def _connect(self) -> Connection:
        selected = self._selected()
        try:
            context = client_context(ca=selected.ca, certificate=selected.cert, key=selected.key)
        except TlsSetupFailed as error:
            raise SettingsError(str(error)) from None
        return Connection(selected.server.host, selected.server.port, context)

    def _selected(self) -> "_Selected":
        given = self if self.context is not None else self._completed_from_environment()
        cert, key = given.cert, given.key
        if (cert is None) != (key is None):
            raise SettingsError(
                "certificate and key must be given together: --cert and --key, WORKER_CERT and WORKER_KEY"
            )
        if given.server and given.ca and cert and key:
            return _Selected(given.server, given.ca, cert, key)
        name = given.context or contexts.current()
        found = _OfHome(Home(home_directory())) if name == contexts.DEFAULT else contexts.load(name)
        own = (cert, key) if cert and key else found.own
        return _Selected(given.server or found.server, given.ca or found.ca, *own)

    def _completed_from_environment(self) -> "ClientSettings":
        return ClientSettings(
            self.server or _server_of_environment(),
            self.ca or _path("WORKER_CA"),
            self.cert or _path("WORKER_CERT"),
            self.key or _path("WORKER_KEY"),
            self.reconnect,
            os.environ.get("WORKER_CONTEXT") or None,
        )


@dataclass(frozen=True, slots=True)
class _Selected:
    server: Address
    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _OfHome:
    """The server of WORKER_HOME, as a context."""

    home: Home

    @property
    def server(self) -> Address:
        """The address that the server has recorded."""
        return default_address(self.home)

    @property
    def ca(self) -> Path:
        """The CA that `worker up` has created."""
        return self.home.pki / "ca.crt"

    @property
    def own(self) -> tuple[Path, Path]:
        """The keys there."""
        if (keys := self.home.keys) is not None:
            return keys
        raise SettingsError(
            f"there is no readable key at {self.home.pki / 'writer.key'}; `worker up` creates keys and "
            "starts a server, `worker join` accepts an invitation to one on another machine, --ca, --cert "
            "and --key (WORKER_CA, WORKER_CERT, WORKER_KEY) or --context (WORKER_CONTEXT) select other keys"
        )


def connect(
    server: str | None = None,
    *,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    reconnect: float | None = None,
    context: str | None = None,
    on_lost: Callable[[Disconnection], None] = lambda _: None,
    on_back: Callable[[], None] = lambda: None,
) -> Client:
    """Return a client for ``async with``; what is not given is chosen as the `worker` command does.

    ``server`` is HOST:PORT, ``ca``, ``cert`` and ``key`` are files in PEM format, ``context`` is the name
    of a context. ``reconnect``: how many seconds to retry after the connection was lost, 60 by default; 0:
    not at all. ``on_lost`` is called with the reason when the connection is lost, ``on_back`` when there is
    another one. Raises SettingsError if a value is not valid; entering the client raises it if no keys or
    no context are found.
    """
    if reconnect is not None and not reconnect >= 0:
        raise SettingsError(f"reconnect {reconnect}: not a number of seconds")
    settings = ClientSettings(
        None if server is None else _address("server", server),
        None if ca is None else Path(ca),
        None if cert is None else Path(cert),
        None if key is None else Path(key),
        reconnect,
        context,
    )
    return settings.client(on_lost=on_lost, on_back=on_back)


def _server_of_environment() -> Address | None:
    text = os.environ.get("WORKER_SERVER")
    return _address("WORKER_SERVER", text) if text else None


def _address(name: str, text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise SettingsError(f"{name} {text}: {error}") from None


def _path(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text) if text else None
