"""The blocks of a file in PEM format (RFC 7468). Text between them is ignored."""

import base64
import binascii
import re

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


def certificates_in(data: bytes) -> list[bytes]:
    """Return the certificates, in DER. Raises ValueError."""
    return _blocks(data, b"CERTIFICATE") + _blocks(data, b"X509 CERTIFICATE")


def revocation_lists_in(data: bytes) -> list[bytes]:
    """Return the CRLs, in DER. Raises ValueError."""
    return _blocks(data, b"X509 CRL")


def _blocks(data: bytes, label: bytes) -> list[bytes]:
    try:
        return [
            base64.b64decode(b"".join(content.split()), validate=True)
            for found, content in _BLOCK.findall(data)
            if found == label
        ]
    except binascii.Error as error:
        raise ValueError(f"a block is not in PEM format: {error}") from None
