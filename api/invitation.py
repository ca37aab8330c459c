"""What an invitation decides: who gets its one certificate. It does no I/O but that of certificates.

The inviter determines name, roles, purpose and validity. Of the joiner's request only the key counts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from . import certificates
from .authority import LEAF_DAYS, KeyType, load_authority, new_key
from .certificate_files import CertificateError, key_text
from .credentials import Credentials
from .invitation_messages import Granted, JoinRequest, Offer, Refused
from .invitation_token import Token, new_token
from .roles import Role

WRONG_TOKENS = 5
"""So many wrong tokens end an invitation."""


@dataclass(frozen=True, slots=True)
class Invited:
    """Who is invited: the name, roles and days of the certificate, and the addresses of the servers."""

    name: str
    roles: Collection[Role]
    servers: Sequence[str]
    days: int = LEAF_DAYS


@dataclass(slots=True)
class Invitation:
    """One invitation. ``certificate`` is the path of the certificate as soon as it is issued."""

    directory: Path
    invited: Invited
    token: Token
    offer: Offer
    wrong_tokens: int = field(default=0, init=False)
    certificate: Path | None = field(default=None, init=False)

    @property
    def is_over(self) -> bool:
        """Whether there were too many wrong tokens."""
        return self.wrong_tokens >= WRONG_TOKENS

    def answer(self, request: JoinRequest) -> Granted | Refused:
        """Return the reply to a request; for the first with the right token, issue the certificate.

        A request that cannot be signed does not use up the token.
        """
        if self.is_over:
            return Refused("the invitation has ended after too many wrong tokens")
        if not self.token.has_secret(request.secret):
            self.wrong_tokens += 1
            return Refused("the token is wrong")
        if self.certificate is not None:
            return Refused("the token was used before; it is valid once")
        try:
            self.certificate = certificates.issue(
                self.directory,
                self.invited.name,
                self.invited.roles,
                request=request.request,
                days=self.invited.days,
            )
        except CertificateError as error:
            return Refused(str(error))
        except OSError as error:
            return Refused(f"the certificate cannot be stored: {error.strerror}")
        return Granted(self.certificate.read_bytes(), self.invited.servers)


def invitation(directory: Path, invited: Invited) -> Invitation:
    """Return an invitation by the CA of a directory, with a new token.

    Raises UnusableName, CertificateExists, AuthorityMissing: what would prevent the certificate later.
    """
    certificates.check_issuable(directory, invited.name)
    authority = load_authority(directory).certificate.public_bytes(Encoding.DER)
    return Invitation(directory, invited, new_token(authority), Offer(authority))


def bundle(directory: Path, invited: Invited) -> tuple[Path, Credentials]:
    """Issue the certificate for a new key at once; return its path, and all that the client needs.

    The key is nowhere else. Raises UnusableName, CertificateExists, AuthorityMissing and OSError, and then
    changes nothing.
    """
    certificates.check_issuable(directory, invited.name)
    key = new_key(KeyType.P256)
    request = certificates.signing_request(invited.name, key)
    path = certificates.issue(directory, invited.name, invited.roles, request=request, days=invited.days)
    ca = load_authority(directory).certificate.public_bytes(Encoding.PEM)
    return path, Credentials(invited.name, tuple(invited.servers), ca, path.read_bytes(), key_text(key))
