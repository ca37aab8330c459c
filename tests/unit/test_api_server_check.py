"""What `worker invite` finds out about the server that it names."""

import asyncio
import socket
from functools import partial
from pathlib import Path

import pytest

from worker.api import certificates
from worker.api.server_check import Trouble, server_trouble
from worker.api.tls import TlsSetupFailed

from ..support.authorities import TestCA
from ..support.inviting import own_copy
from ..support.served import serving


async def found(host: str, port: int, pki: Path, own: str | None = None) -> Trouble | None:
    """Return the trouble with a server."""
    check = partial(server_trouble, host, port, pki, own=own)
    trouble = await asyncio.get_running_loop().run_in_executor(None, check)
    return None if trouble is None else trouble.kind


@pytest.mark.parametrize("own", ["reader", None])
async def test_a_server_that_clients_can_use(pki: Path, own: str | None) -> None:
    """With a certificate for the name, of the CA."""
    async with serving(pki) as served:
        assert None is await found("127.0.0.1", served.port, pki, own)


async def test_a_name_that_is_not_in_the_certificate(pki: Path, tmp_path: Path) -> None:
    """Until the certificate is renewed with this name."""
    directory = own_copy(pki, tmp_path)
    async with serving(directory, host="127.0.0.2") as served:
        assert Trouble.OTHER_NAME is await found("127.0.0.2", served.port, directory)
    certificates.renew(directory, "server", hosts=["127.0.0.2"])
    async with serving(directory, host="127.0.0.2") as served:
        assert None is await found("127.0.0.2", served.port, directory)


async def test_a_server_of_another_ca(pki: Path, tmp_path: Path) -> None:
    """Its name does not matter."""
    (tmp_path / "ca.crt").write_bytes(TestCA("another CA").issued.pem)
    async with serving(pki) as served:
        assert Trouble.OTHER_CA is await found("127.0.0.1", served.port, tmp_path)


async def test_nothing_answers(pki: Path) -> None:
    """Nobody listens, or nobody accepts, or what listens does not speak TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        quick = partial(server_trouble, "127.0.0.1", port, pki, patience=0.1)
        trouble = await asyncio.get_running_loop().run_in_executor(None, quick)
        assert trouble is not None
        assert Trouble.NO_TLS is trouble.kind
    assert Trouble.UNREACHABLE is await found("127.0.0.1", port, pki)
    assert Trouble.UNKNOWN_HOST is await found("host.invalid", port, pki)


def test_without_a_ca(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(TlsSetupFailed, match=r"ca\.crt"):
        server_trouble("127.0.0.1", 1, tmp_path)
