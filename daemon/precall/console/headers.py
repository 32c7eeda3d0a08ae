"""The headers of the console's pages and assets."""

from aiohttp import hdrs

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_COMMON: dict[str, str] = {
    hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # `no-referrer` would also hide the origin of a form from its own target.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    hdrs.SERVER: "precall",
}

PAGE: dict[str, str] = {
    **_COMMON,
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.VARY: "Accept-Language, Cookie, HX-Request",
}
"""Headers of a page."""

ASSET: dict[str, str] = _COMMON
"""Headers of an asset. How long it may be cached depends on how it is asked for."""
