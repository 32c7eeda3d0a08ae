"""Which proxy leads to an address of the provider: the configured one, that of the environment, or none.

The environment is read as other programs read it, by the standard library: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in
lower case too. As there, NO_PROXY names hosts, domains and host:port, or * for all. Loopback addresses are never asked
for through a proxy of the environment: it would look on its own machine. `.netrc` is never read.
"""

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from precall.config.addresses import is_loopback
from precall.telemetry.redaction import keep

ENVIRONMENT, NONE = "env", "none"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its address without credentials, and the name of the setting that it comes from."""

    address: str
    named_by: str
    login: str = ""
    """The value of the header Proxy-Authorization, "" for none."""

    def __repr__(self) -> str:
        return f"Proxy({self.address}, named by {self.named_by})"


def proxy_for(setting: str, endpoint: str) -> Proxy | None:
    """Return the proxy for `endpoint`, None for a direct connection. `setting` is "env", "none" or a URL."""
    if setting == NONE:
        return None
    if setting != ENVIRONMENT:
        return _proxy(setting, "provider.proxy")
    parts = urlsplit(endpoint)
    proxies = getproxies()
    url = proxies.get(parts.scheme, "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    place = f"{host}:{parts.port}" if parts.port else host
    if not url or is_loopback(parts.hostname or "") or proxy_bypass(place):
        return None
    return _proxy(url if "://" in url else f"http://{url}", f"{parts.scheme.upper()}_PROXY")


def _proxy(url: str, named_by: str) -> Proxy:
    parts = urlsplit(url)
    written, _, place = parts.netloc.rpartition("@")
    login = ""
    if written:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        encoded = b64encode(f"{user}:{password}".encode()).decode()
        login = f"Basic {encoded}"
        keep(password, f"{user}:{password}", written, encoded)
    return Proxy(f"{parts.scheme}://{place}", named_by, login)
