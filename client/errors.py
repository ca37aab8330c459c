"""The errors of a client: one tree.

    ClientError             the base of all
    ├── RpcError            the server refused a call, or failed; its code says why
    ├── ServerUnreachable   there is no connection to the server, or it broke
    ├── SettingsError       no server or no key is selected, or not one that can be used
    └── InputFailed         the input of an attachment cannot be read

Values that no job can have raise `worker.core.errors.InvalidJobSpec` before any call is made.
"""

from ..api.grpc.errors import ClientError, RpcError

__all__ = ["ClientError", "Disconnection", "InputFailed", "RpcError", "ServerUnreachable", "SettingsError"]


OTHER_CERTIFICATE = (
    "get another one from the owner of the CA (`worker join`), or select one (--cert and --key, --context)"
)
"""What helps a client whose certificate is refused."""


class ServerUnreachable(ClientError):
    """The server cannot be reached; the message is one line with address and reason.

    ``lost``: there was a connection, and it broke. ``silent``: the server had sent nothing over it; it
    died at that moment, or it rejects this client's certificate.
    """

    def __init__(self, address: str, reason: str, *, lost: bool = False, silent: bool = False) -> None:
        super().__init__(f"cannot reach the server at {address}: {reason}")
        self.address = address
        self.reason = reason
        self.lost = lost
        self.silent = silent


class SettingsError(ClientError):
    """A setting, a context or a key is missing or cannot be used; the message names it and the remedy."""


class InputFailed(ClientError):
    """The input cannot be read, for the reason of the OSError that is the ``__cause__``."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))


Disconnection = RpcError | ServerUnreachable
"""What may end a call whose connection is lost."""
