"""The server's TLS: a context for each next connection, made again when the files are reloaded.

A reload replaces everything at once, or nothing. Connections that exist keep their context; whether their
clients are still trusted is decided by the Trust that the reload has replaced.
"""

import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from math import inf
from pathlib import Path
from time import time
from typing import TypeVar
from weakref import finalize

from . import revocation
from .ends_of_validity import Expiry, of_certificate, of_crl
from .pem import certificates_in, revocation_lists_in
from .tls import TlsSetupFailed, check_readable, server_context
from .trust import ChainCertificate, Trust, chain_certificate

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that the server reads; ``ca`` has the CAs of clients."""

    ca: Path
    certificate: Path
    key: Path
    crl: Path | None = None
    denied: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All that there are."""
        return [path for path in astuple(self) if path is not None]


class ServerTls:
    """What ``files`` returns, as it was read last; raises TlsSetupFailed if the first read fails.

    ``check`` is called with each file before it is read, and may raise TlsSetupFailed. ``unfinished``
    returns why a file is not complete yet, or an empty text.
    ``files`` is called for each read, so that a file without which a server can run may appear later.
    ``settled`` is in seconds: a new file that was written later than that may not be complete.
    """

    def __init__(
        self,
        files: Callable[[], TlsFiles],
        *,
        settled: float = 1.0,
        check: Callable[[Path], None] = lambda _: None,
        unfinished: Callable[[Path], str] = lambda _: "",
    ) -> None:
        self._files = files
        self._settled = settled
        self._check = check
        self._unfinished = unfinished
        self._seen = _Seen(files())
        self._loaded = self._load(self._seen.files)
        self._failed = False

    @property
    def trust(self) -> Trust:
        """Which clients are trusted now."""
        return self._loaded.trust

    @property
    def expiries(self) -> Sequence[Expiry]:
        """The ends of the server's certificate, of the CAs and of their CRLs."""
        return self._loaded.expiries

    def context_for_next_connection(self) -> ssl.SSLContext:
        """Return the context for a connection that is accepted now."""
        return self._loaded.context

    def reload(self) -> None:
        """Read the files again; raise TlsSetupFailed, and keep what was read before, if one is unusable."""
        before, self._seen = self._loaded, _Seen(self._files())
        self._failed = True
        for each in fields(TlsFiles):
            path = getattr(before.files, each.name)
            now = getattr(self._seen.files, each.name)
            if path is not None and now is None:
                raise TlsSetupFailed(f"cannot read {path}: {os.strerror(2)}")
            if now is not None and (reason := self._unfinished(now)):
                raise TlsSetupFailed(reason)
        self._loaded = self._load(self._seen.files)
        self._failed = False

    def _load(self, files: TlsFiles) -> "_Loaded":
        for path in files.paths:
            self._check(path)
        return _load(files)

    def was_replaced(self) -> bool:
        """Whether a path names another file than at the last read or attempt, complete by now.

        A write into the same file does not count: half of it may not be written yet. It counts after an
        attempt that has failed, perhaps because the file was not complete.
        """
        files = self._files()
        replaced = self._seen.files != files or self._seen.was_replaced(written=self._failed)
        return replaced and all(
            _age(path) >= self._settled and not self._unfinished(path) for path in files.paths
        )


@dataclass(frozen=True, slots=True)
class _Loaded:
    files: TlsFiles
    context: ssl.SSLContext
    trust: Trust
    expiries: Sequence[Expiry]


class _Seen:
    """Which files were there at a moment. They are kept open, so that no other file gets their inodes."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._descriptors = {path: _open(path) for path in files.paths}
        self._writes = {
            path: _last_write(os.fstat(descriptor))
            for path, descriptor in self._descriptors.items()
            if descriptor is not None
        }
        finalize(self, _close, list(self._descriptors.values()))

    def was_replaced(self, *, written: bool) -> bool:
        """Whether a path names another file now; if ``written``, also if a file was changed in place."""
        for path, descriptor in self._descriptors.items():
            try:
                now = path.stat()
            except OSError:
                if descriptor is not None:
                    return True
            else:
                if descriptor is None or not os.path.samestat(os.fstat(descriptor), now):
                    return True
                if written and self._writes[path] != _last_write(now):
                    return True
        return False


def _last_write(info: os.stat_result) -> tuple[int, int]:
    return info.st_mtime_ns, info.st_size


def _age(path: Path) -> float:
    """Return the seconds since the last write; of a file that is missing, or of the future, many."""
    try:
        age = time() - path.stat().st_mtime
    except OSError:
        return inf
    return age if age >= 0 else inf


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError:
        return None


def _close(descriptors: Sequence[int | None]) -> None:
    for each in descriptors:
        if each is not None:
            os.close(each)


def _load(files: TlsFiles) -> _Loaded:
    authorities, crls = _parsed(files.ca, _authorities_and_crls)
    if not authorities:
        raise TlsSetupFailed(f"{files.ca} contains no certificate in PEM format")
    try:
        context = server_context(authorities=authorities, certificate=files.certificate, key=files.key)
    except (ssl.SSLError, ValueError) as error:
        raise TlsSetupFailed(f"{files.ca}: {error}") from None
    own, *_ = _parsed(files.certificate, certificates_in)
    if files.crl is not None:
        crls += _parsed(files.crl, _crls)
    try:
        lists = revocation.revocation_lists(crls, authorities)
    except ValueError as error:
        raise TlsSetupFailed(f"{files.crl or files.ca}: {error}") from None
    denied = frozenset[int]() if files.denied is None else _parsed(files.denied, revocation.denied_in_file)
    trust = Trust(_parsed_certificates(files.ca, authorities), lists, denied)
    [server] = _parsed_certificates(files.certificate, [own])
    return _Loaded(files, context, trust, list(_expiries(files, server, trust)))


def _parsed(path: Path, parse: Callable[[bytes], Value]) -> Value:
    """Return what is in a file; raise TlsSetupFailed, naming the file."""
    check_readable(path)
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise TlsSetupFailed(f"{path}: {error}") from None


def _authorities_and_crls(data: bytes) -> tuple[list[bytes], list[bytes]]:
    return certificates_in(data), revocation_lists_in(data)


def _crls(data: bytes) -> list[bytes]:
    if not (found := revocation_lists_in(data)):
        raise ValueError("it contains no CRL in PEM format")
    return found


def _parsed_certificates(path: Path, certificates: Sequence[bytes]) -> list[ChainCertificate]:
    try:
        return [chain_certificate(each) for each in certificates]
    except ValueError as error:
        raise TlsSetupFailed(f"{path}: {error}") from None


def _expiries(files: TlsFiles, server: ChainCertificate, trust: Trust) -> Iterator[Expiry]:
    yield of_certificate(f"the server's certificate {files.certificate}", server.not_after)
    for each in trust.authorities:
        yield of_certificate(f"the certificate of the CA {each.subject!r} in {files.ca}", each.not_after)
    for crls in trust.revocation_lists.values():
        for crl in crls:
            yield of_crl(crl.issuer, crl.next_update)
