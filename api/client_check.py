"""The client of a connection: who it is, and whether it is still trusted."""

from collections.abc import Callable, Sequence
from ssl import SSLObject
from time import time

from .identity import NO_CERTIFICATE, Caller, peer_address, read_certificate
from .refusal_log import RefusalLog
from .tls import verified_chain
from .trust import ChainCertificate, Standing, Trust, chain_certificate


class ClientCheck:
    """Reads the client's certificate once, and decides at any time whether its chain is trusted.

    ``connection`` has completed its handshake; ``peer`` is the address of the client.
    """

    def __init__(
        self, connection: SSLObject, peer: object, trust: Callable[[], Trust], refusals: RefusalLog
    ) -> None:
        certificate = connection.getpeercert(binary_form=True)
        self.caller = Caller(
            read_certificate(certificate) if certificate else NO_CERTIFICATE, peer_address(peer)
        )
        self._trust = trust
        self._refusals = refusals
        self._decided_by: Trust | None = None
        self._standing = Standing("its certificate cannot be read")
        try:
            self._chain: Sequence[ChainCertificate] = list(
                map(chain_certificate, verified_chain(connection))
            )
        except ValueError:  # read_certificate has logged the reason
            self._chain = ()

    def refusal(self) -> str | None:
        """Return why the client is not trusted now, None if it is; decided again when that may change."""
        if self._trust() is not self._decided_by or not self._standing.holds(time()):
            self._decide()
        return self._standing.refusal

    def _decide(self) -> None:
        self._decided_by = self._trust()
        if self._chain:
            self._standing = self._decided_by.standing(self._chain, time())
        if self._standing.refusal is not None:
            self._refusals.add(str(self.caller), self._standing.refusal)
