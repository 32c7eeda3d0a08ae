"""Why a daemon cannot be reached, in one line with the cause and what to do about it."""

import errno
import os
import socket
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

_NOT_TRUSTED = frozenset({18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
_EXPIRED, _NOT_YET = 10, 9
"""Codes of X509_verify_cert_error_string(3)."""


def why(error: Exception, url: str, *, shows_certificate: bool) -> str:
    """Return the line for an error of aiohttp or the system.

    `shows_certificate` is set if a client certificate was offered.
    """
    tls = url.startswith("https:")
    match error:
        case aiohttp.InvalidURL():
            return f'{url} is not an address; write it like "http://127.0.0.1:8080"'
        case aiohttp.ClientPayloadError():
            return f"{url} broke off in the middle of its answer"
        case aiohttp.ConnectionTimeoutError():
            return f"{url} cannot be reached in time: a wrong address, or a firewall that drops{_proxy(url)}"
        case TimeoutError():
            return f"{url} does not answer in time"
        case aiohttp.ClientConnectorCertificateError():
            return f"{url} {_distrusted(error.certificate_error)}"
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return f"no daemon answers at {url}: its name is not known to DNS{_proxy(url)}"
        case aiohttp.ServerDisconnectedError() if not tls:
            return (
                f"no daemon answers at {url}: the connection is closed without an answer;"
                " does it speak TLS, so that it is https://?"
            )
        case aiohttp.ClientResponseError():
            return f"no daemon answers at {url}: what listens there does not speak HTTP"
    if (found := _of_tls(error)) is not None:
        return f"no daemon answers at {url}: {_refused_in_tls(found, shows_certificate=shows_certificate)}"
    if tls and isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionError, aiohttp.ClientOSError)):
        if _reason(error) == errno.ECONNREFUSED or isinstance(error, aiohttp.ClientConnectorError):
            return _no_connection(error, url)
        wanted = "a certificate signed by its api.client_ca_file" if shows_certificate else "--cert and --key"
        return f"no daemon answers at {url}: the connection is closed after the handshake; does it want {wanted}?"
    return _no_connection(error, url)


def _no_connection(error: Exception, url: str) -> str:
    number = _reason(error)
    if number == errno.ECONNREFUSED:
        return f"no daemon answers at {url}: connection refused; is `precall run` running there?{_proxy(url)}"
    said = os.strerror(number) if number > 0 else type(error).__name__
    return f"no daemon answers at {url}: {said}; is `precall run` running there?{_proxy(url)}"


def _reason(error: Exception) -> int:
    origin = getattr(error, "os_error", error)
    number = getattr(origin, "errno", None)
    if number is None and "Connect call failed" in str(origin):  # of several addresses each
        return errno.ECONNREFUSED if f"[Errno {errno.ECONNREFUSED}]" in str(origin) else 0
    return number if isinstance(number, int) else 0


def _of_tls(error: Exception) -> ssl.SSLError | None:
    for found in (getattr(error, "os_error", None), error, error.__cause__, error.__context__):
        if isinstance(found, ssl.SSLError):
            return found
    return None


def _refused_in_tls(error: ssl.SSLError, *, shows_certificate: bool) -> str:
    reason = getattr(error, "reason", "") or str(error)
    if "CERTIFICATE_REQUIRED" in reason or ("HANDSHAKE_FAILURE" in reason and not shows_certificate):
        return "it wants a client certificate: give --cert and --key"
    if "ALERT" in reason and shows_certificate:
        return f"it does not take the certificate of --cert ({reason}): has its api.client_ca_file signed it?"
    if any(word in reason for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")):
        return "it does not speak TLS: write http://"
    return f"TLS fails ({reason})"


def _distrusted(error: Exception) -> str:
    code = getattr(error, "verify_code", 0)
    said = getattr(error, "verify_message", "") or str(error)
    if code in _NOT_TRUSTED:
        return f"shows a certificate whose authority is not known here ({said}): name that authority with --cacert"
    if code in _OTHER_NAME:
        return f"shows a certificate for another name ({said}): ask it by the name in the certificate"
    if code == _EXPIRED:
        return f"shows a certificate that has expired ({said}): renew it, or set this machine's clock"
    if code == _NOT_YET:
        return f"shows a certificate that is not valid yet ({said}): set this machine's clock"
    return f"shows a certificate that does not hold ({said})"


def _proxy(url: str) -> str:
    """Return a remark if a proxy is set that other programs would use."""
    parts = urlsplit(url)
    if parts.scheme in getproxies() and not proxy_bypass(parts.hostname or ""):
        return f" ({parts.scheme.upper()}_PROXY is not used: a daemon is asked directly)"
    return ""
