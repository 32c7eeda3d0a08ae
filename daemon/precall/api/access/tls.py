"""TLS of the listeners: certificate, key and client authority, reloaded when their files change.

New handshakes use the latest files that could be loaded. Open connections are not touched.
"""

import ssl
from collections.abc import Callable
from math import inf
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from precall.config.schema import ApiConfig
from precall.core.errors import ListenError
from precall.engine.process_state import CertificateEnd
from precall.telemetry.logging import get_logger

log = get_logger(__name__)

Stamps = tuple[tuple[int, int, int, int], ...]
"""What identifies a version of the files."""


class CertificateWatch:
    """The TLS context of the listeners. `reloaded` is called with "ok" or "failed" after each reload."""

    def __init__(self, config: ApiConfig, reloaded: Callable[[str], None]) -> None:
        """Raises ListenError if the files cannot be used."""
        self._config, self._reloaded = config, reloaded
        self._files = [config.tls_cert_file, config.tls_key_file, config.client_ca_file]
        self._stamps = self._stamped()
        try:
            self._newest = _context(config)
            self.context = _context(config)
            self._ends = validity(config.tls_cert_file)[1]
        except OSError as error:  # ssl.SSLError is one
            raise ListenError(f"{_named(config)} cannot be used: {error}") from error
        # Called at each handshake, also when the client names no server.
        self.context.sni_callback = self._choose

    @property
    def end(self) -> CertificateEnd:
        """When the certificate in use ends."""
        return CertificateEnd(self._config.tls_cert_file, self._ends)

    def renew(self) -> None:
        """Load the files if they have changed. A pair that does not match is ignored: it may be half written."""
        stamps = self._stamped()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._newest = _context(self._config)
            self._ends = validity(self._config.tls_cert_file)[1]
        except OSError as error:
            log.error("tls.not_renewed", error=f"{_named(self._config)} cannot be used: {error}")
            self._reloaded("failed")
        else:
            log.info("tls.renewed", cert=self._config.tls_cert_file)
            self._reloaded("ok")

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _stamped(self) -> Stamps:
        found = []
        for file in filter(None, self._files):
            try:
                stat = Path(file).stat()
            except OSError:
                found.append((0, 0, 0, 0))
            else:
                found.append((stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino))
        return tuple(found)


def _context(config: ApiConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Without a password, a key that needs one is refused rather than asked for at the terminal.
    context.load_cert_chain(config.tls_cert_file, config.tls_key_file, password="")
    if config.client_ca_file:
        context.load_verify_locations(config.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not be verified again.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def validity(file: str) -> tuple[float, float]:
    """Return from when until when the first certificate of a file is valid, in Unix seconds.

    For ever if that cannot be read. Raises OSError.
    """
    try:
        [first, *_] = load_pem_x509_certificates(Path(file).read_bytes())
    except ValueError:
        return -inf, inf
    return first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()


def _named(config: ApiConfig) -> str:
    named = f"api.tls_cert_file {config.tls_cert_file} and api.tls_key_file {config.tls_key_file}"
    return f"{named}, with api.client_ca_file {config.client_ca_file}," if config.client_ca_file else named
