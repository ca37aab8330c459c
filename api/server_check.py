"""Whether clients elsewhere can use an address of a server: it answers, with a certificate for that."""

import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .tls import TlsSetupFailed, check_readable

PATIENCE = 3.0
"""Seconds until a server must have answered."""


class Trouble(Enum):
    """What prevents clients from using an address."""

    UNKNOWN_HOST = "this machine does not know the name"
    UNREACHABLE = "nothing answers"
    OTHER_CA = "its certificate is of another CA"
    OTHER_NAME = "its certificate does not contain this name"
    NO_TLS = "it is not a server of worker"


@dataclass(frozen=True, slots=True)
class ServerTrouble:
    """The trouble, with what the system says about it."""

    kind: Trouble
    reason: str


def server_trouble(
    host: str, port: int, pki: Path, *, own: str | None = None, patience: float = PATIENCE
) -> ServerTrouble | None:
    """Connect to a server as clients of the CA in ``pki`` do; return what is wrong, None if nothing is.

    ``own`` names a client's certificate in ``pki``; without one the server notes that it has refused a
    client. Raises TlsSetupFailed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    check_readable(pki / "ca.crt")
    try:
        context.load_verify_locations(pki / "ca.crt")
        if own is not None:
            context.load_cert_chain(pki / f"{own}.crt", pki / f"{own}.key")
    except (OSError, ssl.SSLError) as error:
        raise TlsSetupFailed(f"{pki}: {error.strerror}") from None
    try:
        connection = socket.create_connection((host, port), timeout=patience)
    except socket.gaierror as error:
        return ServerTrouble(Trouble.UNKNOWN_HOST, error.strerror or str(error))
    except OSError as error:
        return ServerTrouble(Trouble.UNREACHABLE, error.strerror or "it does not answer")
    with connection:
        try:
            context.wrap_socket(connection, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            names = error.verify_code in {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
            return ServerTrouble(Trouble.OTHER_NAME if names else Trouble.OTHER_CA, error.verify_message)
        except OSError as error:  # also other errors of TLS
            return ServerTrouble(Trouble.NO_TLS, error.strerror or "it does not answer")
    return None
