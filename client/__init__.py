"""The client of a server: connections, calls that are repeated, jobs, settings and contexts.

Every public name can be imported from here, and is loaded on first use (PEP 562): a short command imports
only the modules that it uses.
"""

MODULES = {
    "client": ("Client",),
    "errors": ("ClientError", "InputFailed", "RpcError", "ServerUnreachable", "SettingsError"),
    "job": ("Job",),
    "settings": ("connect",),
    "window": ("Window",),
}
"""The modules of the public names."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Client as Client
    from .errors import ClientError as ClientError
    from .errors import InputFailed as InputFailed
    from .errors import RpcError as RpcError
    from .errors import ServerUnreachable as ServerUnreachable
    from .errors import SettingsError as SettingsError
    from .job import Job as Job
    from .settings import connect as connect
    from .window import Window as Window
else:

    def __getattr__(name: str) -> object:
        for module, names in MODULES.items():
            if name in names:
                from importlib import import_module  # noqa: PLC0415 - only when a name is used

                return getattr(import_module(f".{module}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
