"""The blocks of a file in PEM format (RFC 7468). Text between them is ignored.

A block without an end is an error: the file may be written only in part, and what is missing may be a CA,
or a CRL.
"""

import base64
import binascii
import re

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN = b"-----BEGIN "


def certificates_in(data: bytes) -> list[bytes]:
    """Return the certificates, in DER. Raises ValueError."""
    return _blocks(data, b"CERTIFICATE") + _blocks(data, b"X509 CERTIFICATE")


def revocation_lists_in(data: bytes) -> list[bytes]:
    """Return the CRLs, in DER. Raises ValueError."""
    return _blocks(data, b"X509 CRL")


def _blocks(data: bytes, label: bytes) -> list[bytes]:
    blocks = list(_BLOCK.finditer(data))
    rest = data[blocks[-1].end() :] if blocks else data
    if _BEGIN in rest or _begins_block(rest):
        raise ValueError("its last block has no end; the file is not complete")
    try:
        return [
            base64.b64decode(b"".join(block[2].split()), validate=True)
            for block in blocks
            if block[1] == label
        ]
    except binascii.Error as error:
        raise ValueError(f"a block is not in PEM format: {error}") from None


def _begins_block(text: bytes) -> bool:
    """Whether a text ends within the first line of a block."""
    last = text.rpartition(b"\n")[2]
    return bool(last) and (_BEGIN.startswith(last) or last.startswith(_BEGIN))
