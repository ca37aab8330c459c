"""A stock client of the original API: grpcio, with stubs made from the original proto."""

import importlib.util
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from grpc_tools import protoc

from worker.api import certificates
from worker.api.roles import ROLES_OID

NOWHERE = "b58476f2-9479-445b-898d-29eeaf905a47"
PATIENCE = 60.0


class Stock:
    """The stubs, and where and as whom to use them."""

    def __init__(self, target: str, pki: Path, messages: ModuleType, services: ModuleType) -> None:
        self.target = target
        self.pki = pki
        self.messages = messages
        self._services = services

    def credentials(self, name: str | None, pki: Path | None = None) -> grpc.ChannelCredentials:
        """Return the credentials of a client by the name of its certificate."""
        pki = pki or self.pki
        return grpc.ssl_channel_credentials(
            (self.pki / "ca.crt").read_bytes(),
            (pki / f"{name}.key").read_bytes() if name else None,
            (pki / f"{name}.crt").read_bytes() if name else None,
        )

    def channel(self, name: str | None, pki: Path | None = None) -> grpc.Channel:
        """Return a channel, to be entered."""
        return grpc.secure_channel(self.target, self.credentials(name, pki))

    def stub(self, channel: grpc.Channel) -> Any:
        """Return the generated stub."""
        return self._services.WorkerServiceStub(channel)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules that anybody generates from the original proto."""
    out = tmp_path_factory.mktemp("stubs")
    source = Path(__file__).parent
    command = ["protoc", f"-I{source}", f"--python_out={out}", f"--grpc_python_out={out}", "original.proto"]
    assert 0 == protoc.main(command)
    modules = []
    for name in ("original_pb2", "original_pb2_grpc"):
        spec = importlib.util.spec_from_file_location(name, out / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        modules.append(importlib.util.module_from_spec(spec))
        sys.modules[name] = modules[-1]
        spec.loader.exec_module(modules[-1])
    yield modules[0], modules[1]
    del sys.modules["original_pb2"], sys.modules["original_pb2_grpc"]


@pytest.fixture(scope="module")
def stock(shared: Any, pki: Path, stubs: tuple[ModuleType, ModuleType]) -> Stock:
    """A stock client of the running server."""
    return Stock((shared.home / "address").read_text().strip(), pki, *stubs)


@pytest.fixture
def writer(stock: Stock) -> Iterator[Any]:
    """The stub of a client that may do everything."""
    with stock.channel("writer") as channel:
        yield stock.stub(channel)


@pytest.fixture
def reader(stock: Stock) -> Iterator[Any]:
    """The stub of a client that may query and stream."""
    with stock.channel("reader") as channel:
        yield stock.stub(channel)


@pytest.fixture
def start(stock: Stock, writer: Any) -> Callable[..., str]:
    """Start a job with the original request and return its id."""

    def start(name: str, *args: str) -> str:
        request = stock.messages.StartRequest(name=name, args=args)
        return str(writer.Start(request, timeout=PATIENCE).jobID)

    return start


@pytest.fixture
def stream(stock: Stock, reader: Any) -> Callable[[str], str]:
    """Return the whole output of a job, as text, once it is over."""

    def stream(job: str) -> str:
        replies = reader.Stream(stock.messages.StreamRequest(jobID=job), timeout=PATIENCE)
        return "".join(reply.output for reply in replies)

    return stream


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the status of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    details = caught.value.details()
    assert details
    assert "Traceback" not in details
    return caught.value.code(), details


# --- what a writer and a reader may do


def test_start_query_and_stream(
    stock: Stock, reader: Any, start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """The example of the original design."""
    job = start("ls", "/")
    assert job == str(UUID(job))
    assert sorted(path.name for path in Path("/").iterdir() if path.name[0] != ".") == sorted(
        stream(job).split()
    )
    status = reader.Query(stock.messages.QueryRequest(jobID=job))
    assert status.pid > 0
    assert (0, True) == (status.exitCode, status.exited)


def test_stop(stock: Stock, writer: Any, reader: Any, start: Callable[..., str]) -> None:
    """It answers when the job is over; a job that is over cannot be stopped."""
    job = start("sleep", "1000")
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    request = stock.messages.StopRequest(jobID=job)
    assert stock.messages.StopResponse() == writer.Stop(request, timeout=PATIENCE)
    status = reader.Query(stock.messages.QueryRequest(jobID=job))
    assert (143, True) == (status.exitCode, status.exited)
    assert (
        grpc.StatusCode.FAILED_PRECONDITION,
        "the process is already finished",
    ) == refusal(lambda: writer.Stop(request))


def test_a_reader_may_not_change_anything(
    stock: Stock, reader: Any, start: Callable[..., str], writer: Any
) -> None:
    """Start and Stop are denied, and nothing happens."""
    job = start("sleep", "1000")
    for call in (
        lambda: reader.Start(stock.messages.StartRequest(name="touch", args=["/tmp/denied"])),
        lambda: reader.Stop(stock.messages.StopRequest(jobID=job)),
    ):
        assert grpc.StatusCode.PERMISSION_DENIED == refusal(call)[0]
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    assert not Path("/tmp/denied").exists()
    writer.Stop(stock.messages.StopRequest(jobID=job))


def test_many_clients_stream_the_same_job(stock: Stock, start: Callable[..., str]) -> None:
    """Whether they come before, during or after, all get everything from the first byte."""
    job = start("sh", "-c", "for i in $(seq 200); do echo line $i; sleep 0.005; done")

    def stream(_number: int) -> str:
        with stock.channel("reader") as channel:
            request = stock.messages.StreamRequest(jobID=job)
            return "".join(reply.output for reply in stock.stub(channel).Stream(request, timeout=PATIENCE))

    expected = "".join(f"line {number}\n" for number in range(1, 201))
    with ThreadPoolExecutor(8) as pool:
        assert [expected] * 16 == list(pool.map(stream, range(16)))


def test_text_is_never_cut_within_a_character(
    start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """A character that the job writes in two halves arrives whole; what is no UTF-8 as U+FFFD."""
    job = start("sh", "-c", r"printf 'a\342\202'; sleep 0.2; printf '\254b\377c\342\202'")
    assert "a€b\ufffdc\ufffd" == stream(job)


def test_a_megabyte_of_text_in_characters_of_three_bytes(
    start: Callable[..., str], stream: Callable[[str], str]
) -> None:
    """No border of a chunk does any harm."""
    job = start("sh", "-c", "yes '€' | tr -d '\\n' | head -c 3000000")
    assert "€" * 1_000_000 == stream(job)


def test_a_client_that_cancels_its_stream_harms_nobody(
    stock: Stock, writer: Any, reader: Any, start: Callable[..., str]
) -> None:
    """The job goes on, and so do other streams."""
    job = start("sh", "-c", "echo first; sleep 1000")
    request = stock.messages.StreamRequest(jobID=job)
    for _ in range(3):
        replies = reader.Stream(request)
        assert "first\n" == next(replies).output
        replies.cancel()
    assert not reader.Query(stock.messages.QueryRequest(jobID=job)).exited
    writer.Stop(stock.messages.StopRequest(jobID=job))


def test_the_clients_deadline_does_not_abort_a_stop(
    shared: Any, stock: Stock, writer: Any, reader: Any, stream: Callable[[str], str]
) -> None:
    """The client gives up waiting, the job ends all the same."""
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    job = shared.start("--grace", "1s", "sh", "-c", script)
    assert "ready\n" == next(reader.Stream(stock.messages.StreamRequest(jobID=job))).output
    code, _ = refusal(lambda: writer.Stop(stock.messages.StopRequest(jobID=job), timeout=0.1))
    assert grpc.StatusCode.DEADLINE_EXCEEDED == code
    assert "ready\n" == stream(job)
    assert 137 == reader.Query(stock.messages.QueryRequest(jobID=job)).exitCode


# --- refusals of requests


@pytest.mark.parametrize("job", ["", "x", NOWHERE, "a\nb\x01%41€"])
def test_an_unknown_job(stock: Stock, writer: Any, reader: Any, job: str) -> None:
    """Every method says which one it does not find, character by character."""
    messages = stock.messages
    for call in (
        lambda: reader.Query(messages.QueryRequest(jobID=job)),
        lambda: writer.Stop(messages.StopRequest(jobID=job)),
        lambda: next(reader.Stream(messages.StreamRequest(jobID=job))),
    ):
        assert (grpc.StatusCode.NOT_FOUND, f"Job {job} not found") == refusal(call)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "command: is empty"), ("no-such-command", "No such file"), ("/etc/passwd", "denied"), ("/", "")],
)
def test_a_command_that_cannot_be_run(stock: Stock, writer: Any, name: str, reason: str) -> None:
    """It is an invalid argument, with the reason."""
    code, details = refusal(lambda: writer.Start(stock.messages.StartRequest(name=name)))
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert reason in details


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/WorkerService/Start", b"\x0a\x7fls"),
        ("/WorkerService/Start", b"\xff\xff"),
        ("/WorkerService/Start", b"\x0a\x02\xff\xfe"),
        ("/WorkerService/Start", b"\x08\x01"),
        ("/worker.v1.WorkerService/Start", b"\x0a\x02ls\x40\xff"),
        ("/WorkerService/Query", b"\x0b"),
        ("/WorkerService/Stop", b"\0"),
        ("/WorkerService/Stream", b"\x0a"),
    ],
)
def test_malformed_messages(stock: Stock, path: str, data: bytes) -> None:
    """Bytes that are no request are an invalid argument, and say what is wrong."""
    with stock.channel("writer") as channel:
        code, details = refusal(lambda: channel.unary_unary(path)(data, timeout=PATIENCE))
    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert details.startswith("malformed request: ")


def test_a_request_that_is_too_long(stock: Stock) -> None:
    """More than 4 MiB are refused, with the bound."""
    with stock.channel("writer") as channel:
        call = channel.unary_unary("/WorkerService/Start")
        code, details = refusal(lambda: call(b"\x0a" * ((4 << 20) + 1), timeout=PATIENCE))
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (code, str(4 << 20) in details)


def test_a_compressed_request(stock: Stock, writer: Any) -> None:
    """It is unimplemented rather than misread."""
    request = stock.messages.StartRequest(name="true", args=["x" * 10_000])
    code, details = refusal(lambda: writer.Start(request, compression=grpc.Compression.Gzip))
    assert grpc.StatusCode.UNIMPLEMENTED == code
    assert "compressed" in details


def test_a_method_that_does_not_exist(stock: Stock) -> None:
    """The original's path has the original's methods only."""
    with stock.channel("writer") as channel:
        for path in ("/WorkerService/List", "/worker.v1.WorkerService/Nothing", "/x.Y/Z"):
            assert grpc.StatusCode.UNIMPLEMENTED == refusal(partial(channel.unary_unary(path), b""))[0]


def test_the_standard_health_service(stock: Stock) -> None:
    """Any prober understands the answer: SERVING, or that there is no such service."""
    with stock.channel("reader") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert b"\x08\x01" == check(b"")
        assert grpc.StatusCode.NOT_FOUND == refusal(lambda: check(b"\x0a\x01x"))[0]


# --- refusals of clients


def issue(pki: Path, out: Path, name: str, *extensions: x509.ExtensionType, days: int = 1) -> Path:
    """Sign a certificate with the CA of ``pki``, whatever is in it, and return where it is."""
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    signer = load_pem_private_key((pki / "ca.key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    end = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=30))
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    (out / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (out / f"{name}.key").write_bytes(secret)
    return out


def query(stock: Stock, name: str | None, pki: Path | None) -> tuple[grpc.StatusCode, str]:
    """Return how the harmless call of a client is refused."""
    with stock.channel(name, pki) as channel:
        request = stock.messages.QueryRequest(jobID=NOWHERE)
        return refusal(lambda: stock.stub(channel).Query(request, timeout=PATIENCE))


def roles(value: bytes) -> list[x509.ExtensionType]:
    """Return the extension for roles with this value."""
    return [x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLES_OID), value)]


def test_the_certificates_made_here_do_get_in(stock: Stock, tmp_path: Path) -> None:
    """Those of the next tests are refused for their one fault, not for how they are made."""
    issue(stock.pki, tmp_path, "ann", *roles(b"\x0c\x06reader"))
    assert grpc.StatusCode.NOT_FOUND == query(stock, "ann", tmp_path)[0]


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        roles(b"\x0c\x05admin"),
        roles(b"\x0c\x0creader,admin"),
        roles(b"\x0c\x00"),
        roles(b"reader"),
        roles(b"\x0c\x07reader"),
        roles(b"\x0c\x80reader\0\0"),
        roles(b"\x0c\x06reader\0"),
        roles(b"\x13\x06reader"),
        roles(b""),
    ],
    ids=[
        "no role",
        "unknown role",
        "unknown role beside a known one",
        "empty list",
        "no DER",
        "cut short",
        "indefinite length",
        "something after it",
        "another type",
        "empty extension",
    ],
)
def test_a_client_without_a_proper_role(
    stock: Stock, tmp_path: Path, extensions: Sequence[x509.ExtensionType]
) -> None:
    """It gets in, and every call is denied."""
    issue(stock.pki, tmp_path, "ann", *extensions)
    assert grpc.StatusCode.PERMISSION_DENIED == query(stock, "ann", tmp_path)[0]


def test_a_client_without_a_certificate(stock: Stock) -> None:
    """It does not get in."""
    assert grpc.StatusCode.UNAVAILABLE == query(stock, None, None)[0]


def test_a_certificate_of_another_ca(stock: Stock, tmp_path: Path) -> None:
    """It does not get in, although it says writer."""
    certificates.init(tmp_path / "pki", key_type=certificates.KeyType.P256)
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "writer", tmp_path / "pki")[0]


def test_an_expired_certificate(stock: Stock, tmp_path: Path) -> None:
    """It does not get in."""
    issue(stock.pki, tmp_path, "ann", *roles(b"\x0c\x06writer"), days=-1)
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "ann", tmp_path)[0]


def test_the_certificate_of_a_server(stock: Stock) -> None:
    """It is for another purpose, and does not get in."""
    assert grpc.StatusCode.UNAVAILABLE == query(stock, "server", None)[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_3_only(stock: Stock, version: ssl.TLSVersion) -> None:
    """A client that speaks TLS 1.2 at most does not get in, with the best of certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(stock.pki / "ca.crt")
    context.load_cert_chain(stock.pki / "writer.crt", stock.pki / "writer.key")
    context.maximum_version = version
    host, port = stock.target.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as plain:
        if version is ssl.TLSVersion.TLSv1_3:
            with context.wrap_socket(plain, server_hostname=host) as secure:
                assert "TLSv1.3" == secure.version()
        else:
            # asyncio closes without an alert.
            with pytest.raises(OSError, match=r"PROTOCOL_VERSION|EOF|reset"):
                context.wrap_socket(plain, server_hostname=host)


def test_plain_text(stock: Stock) -> None:
    """A client without TLS does not get in."""
    with grpc.insecure_channel(stock.target) as channel:
        call = stock.stub(channel).Query
        code, _ = refusal(lambda: call(stock.messages.QueryRequest(jobID=NOWHERE), timeout=PATIENCE))
    assert grpc.StatusCode.UNAVAILABLE == code
