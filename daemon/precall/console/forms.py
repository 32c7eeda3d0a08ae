"""Read the forms of the console, and only those: other sites cannot send one in a visitor's name.

Each form carries a token that belongs to a cookie of the visitor: that of the session or, without one, that of
`FORM_COOKIE`. Browsers also say where a form comes from.
"""

import hashlib
import hmac
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web
from yarl import URL

from precall.api.problems import Code
from precall.api.requests import raw_body
from precall.core.errors import Refusal

FORM_COOKIE = "precall_form"
FIELD = "csrf"
DONE = "done"
"""The query parameter of a page that follows an order: which one has been given."""
STALE = "stale_form"
"""The code of a form that was opened in another session, or before a restart of the daemon."""

_MOST = 64 * 1024
_MOST_FIELDS = 50


class FormSeal:
    """Makes and checks the tokens of forms. `key` is a secret of this process."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def token(self, cookie: str) -> str:
        """Return the token for the forms of a visitor with this cookie."""
        return hmac.new(self._key, cookie.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


async def read_form(request: web.Request, csrf: str) -> dict[str, str]:
    """Return the fields of a form, whose token must be `csrf`.

    Raises Refusal: 400 for what is no form, 403 for one of another site or session, 408, 413 or 415.
    """
    _must_come_from_here(request)
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refusal(415, Code.UNSUPPORTED_MEDIA_TYPE, "this path takes the forms of the console")
    raw = await raw_body(request, most=_MOST, named=False)
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise Refusal(400, Code.BAD_REQUEST, "the form cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal(400, Code.BAD_REQUEST, "a field of the form is given twice")
    if not hmac.compare_digest(fields.pop(FIELD, "").encode(), csrf.encode()):
        raise Refusal(403, STALE, "this form belongs to another session; open the page again")
    return fields


def with_done(path: str, order: str) -> str:
    """Return a path of the console that says, once it is shown, that an order is in force."""
    url = URL(path)
    return str(url.update_query({DONE: order}))


def local_path(path: str) -> str:
    """Return a path of the console to lead a visitor to, the first page for anything else.

    Browsers drop tabs and line breaks, and take `\\` for `/`: such a path might lead to another site.
    """
    plain = path.isascii() and path.isprintable() and "\\" not in path and " " not in path
    return path if plain and path.startswith("/console/") and "/../" not in path else "/console/"


def _must_come_from_here(request: web.Request) -> None:
    """Raise Refusal (403) unless the browser says that the form is one of ours."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    given = []
    if site is not None:
        given.append(site == "same-origin")
    if origin is not None:
        given.append(urlsplit(origin).netloc == request.headers.get(hdrs.HOST, ""))
    if not given or not all(given):
        raise Refusal(403, Code.FOREIGN_REQUEST, "forms of another site are not accepted")
