"""The token of an invitation: a secret that is used once, and the digest of the CA that the joiner trusts.

Its text is ``wj1_`` and 64 characters of base64url. It begins with letters, so that no command takes it
for an option.
"""

import base64
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

_PREFIX = "wj1_"
_SECRET_SIZE = 16
_DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True)
class Token:
    """``secret``: 128 random bits; ``digest``: SHA-256 of the certificate of the CA in DER."""

    secret: bytes = field(repr=False)
    digest: bytes

    def __str__(self) -> str:
        return _PREFIX + base64.urlsafe_b64encode(self.secret + self.digest).decode()

    def has_secret(self, other: bytes) -> bool:
        """Whether this is the secret; the comparison takes the same time wherever they differ."""
        return compare_digest(self.secret, other)

    def names(self, authority: bytes) -> bool:
        """Whether the digest is that of this certificate in DER."""
        return self.digest == sha256(authority).digest()


def new_token(authority: bytes) -> Token:
    """Return a token with a new secret for this CA, whose certificate is given in DER."""
    return Token(secrets.token_bytes(_SECRET_SIZE), sha256(authority).digest())


def parse_token(text: str) -> Token:
    """Return the token with this text; raise ValueError."""
    try:
        data = base64.urlsafe_b64decode(text.removeprefix(_PREFIX))
    except ValueError:  # also of text that is not ASCII
        data = b""
    token = Token(data[:_SECRET_SIZE], data[_SECRET_SIZE:])
    if len(data) != _SECRET_SIZE + _DIGEST_SIZE or str(token) != text:
        raise ValueError(
            "this is not the token of an invitation; copy the whole line that `worker invite` prints"
        )
    return token
