"""The key of a joiner: its request, and whether a certificate is for it."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from .authority import KeyType, new_key
from .certificate_files import key_text
from .certificates import signing_request
from .credentials import Credentials
from .identity import read_certificate
from .invitation_messages import Granted


class JoinerKey:
    """A new key, which stays in this process until it is part of the credentials."""

    def __init__(self) -> None:
        self._key = new_key(KeyType.P256)

    def request(self) -> bytes:
        """Return a request for a certificate, in PEM format; the inviter determines the name."""
        return signing_request("joiner", self._key)

    def credentials(self, granted: Granted, authority: bytes) -> Credentials:
        """Return what the inviter has granted; ``authority`` is the certificate of its CA in DER.

        Raises ValueError if that is not a certificate of this CA for this key.
        """
        issuer = x509.load_der_x509_certificate(authority)
        certificate = x509.load_pem_x509_certificate(granted.certificate)
        try:
            certificate.verify_directly_issued_by(issuer)
        except (TypeError, InvalidSignature):
            raise ValueError("it is a certificate of another CA") from None
        if certificate.public_key() != self._key.public_key():
            raise ValueError("it is a certificate of another key")
        return Credentials(
            name=read_certificate(certificate.public_bytes(Encoding.DER)).identity.name,
            servers=granted.servers,
            ca=issuer.public_bytes(Encoding.PEM),
            certificate=granted.certificate,
            key=key_text(self._key),
        )
