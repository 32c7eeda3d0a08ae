"""TLS of the listeners: mutual, renewed without a restart, and never worse than it was."""

import asyncio
import datetime as dt
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from precall.api.server import Server
from precall.config.schema import ApiConfig
from precall.core.errors import ListenError
from precall.telemetry.metrics import Metrics
from tests.support.api_daemon import serving
from tests.support.patience import PATIENCE

BEGUN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
DAYS = 36_500.0


class Authority:
    """Signs certificates."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self._signed(self.name, self.key, authority=True)

    def issue(self, folder: Path, name: str, file: str = "", left: float = DAYS) -> tuple[Path, Path]:
        """A certificate that ends in `left` days and its key, under names of their own."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = folder / f"{file or name}.crt", folder / f"{file or name}.key"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_file.write_bytes(private)
        cert_file.write_bytes(self._signed(subject, key, left))
        return cert_file, key_file

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        left: float = DAYS,
        *,
        authority: bool = False,
    ) -> bytes:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEGUN)
            .not_valid_after(dt.datetime.now(dt.UTC) + dt.timedelta(days=left))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@pytest.fixture(name="authority", scope="module")
def _authority() -> Authority:
    return Authority("authority")


@asynccontextmanager
async def listening(metrics: Metrics | None = None, **config: Any) -> AsyncIterator[tuple[Server, int]]:
    server = Server(ApiConfig(listen=["127.0.0.1:0"], **config), "test", metrics or Metrics(), lambda: 0.0)
    [url] = await server.start()
    assert url.startswith("https://")
    try:
        yield server, urlsplit(url).port or 0
    finally:
        await server.stop(5.0)


def renewals(metrics: Metrics, result: str) -> float:
    found = metrics.registry.get_sample_value("precall_tls_reloads_total", {"result": result})
    assert found is not None
    return found


async def shown(port: int, *, by_name: bool = True, client: tuple[Path, Path] | None = None) -> str:
    """Return the subject of the server certificate.

    Raises ConnectionError or ssl.SSLError if the connection is refused.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client is not None:
        context.load_cert_chain(*client)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if by_name else ""
    )
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        if b" 200 " not in answer[:20]:
            raise ConnectionError("no answer")
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return str(x509.load_der_x509_certificate(der).subject.rfc4514_string())
    finally:
        writer.transport.abort()


async def test_new_connections_see_the_renewed_pair(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue(tmp_path, "old", "server")
    metrics = Metrics()
    async with listening(metrics, tls_cert_file=str(cert), tls_key_file=str(key)) as (server, port):
        for by_name in (True, False):
            assert await shown(port, by_name=by_name) == "CN=old"
        server.renew_certificates()
        assert renewals(metrics, "ok") == 0
        authority.issue(tmp_path, "new", "server")
        server.renew_certificates()
        for by_name in (True, False):
            assert await shown(port, by_name=by_name) == "CN=new"
        assert (renewals(metrics, "ok"), renewals(metrics, "failed")) == (1, 0)


async def test_a_renewed_certificate_is_noticed_without_a_reload(
    tmp_path: Path, authority: Authority
) -> None:
    cert, key = authority.issue(tmp_path, "old", "server")
    metrics = Metrics()
    async with listening(metrics, tls_cert_file=str(cert), tls_key_file=str(key)) as (_, port):
        authority.issue(tmp_path, "new", "server")
        async with asyncio.timeout(PATIENCE):
            while not renewals(metrics, "ok"):
                await asyncio.sleep(0.05)
            while await shown(port) != "CN=new":
                await asyncio.sleep(0.05)


async def test_an_invalid_certificate_is_ignored_and_logged_once(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = authority.issue(tmp_path, "old", "server")
    new_cert, new_key = authority.issue(tmp_path, "new")
    metrics = Metrics()
    async with listening(metrics, tls_cert_file=str(cert), tls_key_file=str(key)) as (server, port):
        cert.write_bytes(new_cert.read_bytes())  # as between the two writes of a renewal
        server.renew_certificates()
        server.renew_certificates()
        assert await shown(port) == "CN=old"
        key.write_text("no key")
        server.renew_certificates()
        key.unlink()
        server.renew_certificates()
        assert await shown(port) == "CN=old"
        assert (renewals(metrics, "ok"), renewals(metrics, "failed")) == (0, 3)
        assert caplog.text.count("tls.not_renewed") == 3
        key.write_bytes(new_key.read_bytes())
        server.renew_certificates()
        assert await shown(port) == "CN=new"


async def test_only_clients_of_the_authority_get_in(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue(tmp_path, "server")
    ours = authority.issue(tmp_path, "ours")
    other = Authority("other")
    theirs = other.issue(tmp_path, "theirs")
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(authority.pem)
    files = {"tls_cert_file": str(cert), "tls_key_file": str(key), "client_ca_file": str(trusted)}
    async with listening(**files) as (server, port):
        for by_name in (True, False):
            assert await shown(port, by_name=by_name, client=ours) == "CN=server"
            for stranger in (None, theirs):
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    await shown(port, by_name=by_name, client=stranger)
        trusted.write_bytes(other.pem)
        server.renew_certificates()
        for by_name in (True, False):
            assert await shown(port, by_name=by_name, client=theirs) == "CN=server"
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await shown(port, by_name=by_name, client=ours)


async def test_an_unfinished_tls_handshake_is_cut_off(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precall.api.server.HANDSHAKE", 0.2)
    cert, key = authority.issue(tmp_path, "server")
    async with listening(tls_cert_file=str(cert), tls_key_file=str(key)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01")
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert await shown(port) == "CN=server"


async def test_encrypted_keys_and_invalid_authorities_are_refused(
    tmp_path: Path, authority: Authority
) -> None:
    cert, key = authority.issue(tmp_path, "server")
    files = {"tls_cert_file": str(cert), "tls_key_file": str(key)}
    with pytest.raises(ListenError, match="client_ca_file"):
        async with listening(**files, client_ca_file=str(key)):
            pytest.fail("it listens")
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221
    with pytest.raises(ListenError, match="tls_key_file"):
        async with listening(**files | {"tls_key_file": str(locked)}):
            pytest.fail("it listens")


async def test_a_whole_daemon_behind_mutual_tls(tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue(tmp_path, "server")
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(authority.pem)
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = False
    context.load_cert_chain(*authority.issue(tmp_path, "ours"))
    files = {"tls_cert_file": str(cert), "tls_key_file": str(key), "client_ca_file": str(trusted)}
    async with serving(tmp_path, api=files) as served:
        assert (await served.ask("GET", "/healthz", ssl=context))[0] == 200
