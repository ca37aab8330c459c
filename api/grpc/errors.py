"""Errors of a call, as a client sees them."""


class ClientError(Exception):
    """The base of all errors that `worker.client` raises."""


class RpcError(ClientError):
    """The server refused the call, or failed; ``code`` is the status as Go prints it, such as NotFound.

    ``message`` is the reason in words. ``errno`` is set when a command could not be executed.
    """

    def __init__(self, code: str, message: str, errno: int | None = None) -> None:
        super().__init__(f"rpc error: code = {code} desc = {message}")
        self.code = code
        self.message = message
        self.errno = errno

    @property
    def status(self) -> str:
        """The code as the gRPC specification writes it, such as NOT_FOUND."""
        from .status import status_name  # noqa: PLC0415 - loads grpclib, which `worker up` does not need

        return status_name(self.code)


class ConnectionLost(Exception):
    """The connection broke during a call."""
