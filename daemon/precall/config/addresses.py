"""Addresses in the configuration: endpoints, proxies, ports and what to listen on.

A wrong one raises ValueError with a text that says what to write.
"""

import ipaddress
from urllib.parse import urlsplit

HIGHEST_PORT = 65_535


def endpoint(value: str) -> str:
    """Return an endpoint such as "https://host" or "http://host:port", without a trailing slash."""
    shown = "this" if "@" in value else repr(value)  # a password stands before the @
    wrong = f'{shown} is not an endpoint; write "https://host" or "http://host:port"'
    try:
        parts = urlsplit(value)
    except ValueError:  # unbalanced brackets
        raise ValueError(wrong) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(wrong)
    if parts.query or parts.fragment or not value.isprintable():
        raise ValueError(wrong)
    host, colon, text = parts.netloc.rpartition("@")[2].rpartition(":")
    if colon and (host.endswith("]") or "[" not in host):
        port(text)
    return value.rstrip("/")


def proxy(value: str) -> str:
    """Return a proxy: "http://user:password@host:port", "env" or "none". Errors do not repeat it."""
    if value in ("env", "none"):
        return value
    try:
        endpoint(value)
    except ValueError:
        raise ValueError(
            'this is not a proxy; write "env", "none" or "http://user:password@host:port"'
        ) from None
    return value.rstrip("/")


def port(text: str) -> int:
    """Return a port that can be connected to."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= HIGHEST_PORT):
        raise ValueError(f"{text[:20]!r} is not a port; there are 1 to {HIGHEST_PORT}")
    return int(text)


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:8080" or "[::1]:8080". Port 0 stands for any free port."""
    host, _, text = address.rpartition(":")
    if not host or not (text.isascii() and text.isdecimal()) or int(text) > HIGHEST_PORT:
        raise ValueError(f'{address!r} must look like "127.0.0.1:8080" or "[::1]:8080"')
    return host.removeprefix("[").removesuffix("]"), int(text)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
