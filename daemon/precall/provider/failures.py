"""Why the provider did not answer, and what to do about it. Pure.

One table classifies the codes that the provider sends, another one failed requests and unreadable replies. Only
`replies`, which parses them, can change a route. A reply is classified by its code first and its HTTP status second,
since the same business code comes with HTTP 200, 400 and 500.

Explanations are those of precall. The message of the provider is never repeated, since it echoes numbers and tokens.

Sources: the products' error code pages (Dyplsapi, Dyvmsapi), the gateway's common errors page, and the codes'
spellings seen in public replies, which drift (POOLKEY_NOT_EXIST, isv.POOLKEY_NOT_EXISTS, PoolKeyNotFound).
"""

import re
from enum import StrEnum

from precall.core.model import Failure, NonAnswer
from precall.provider.console import POOL_KEY_PLACE, SUBS_ID_PLACE

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONG_DIGITS = re.compile(r"[0-9]{7,}")
_CODE_LENGTH = 64


class TransportTrouble(StrEnum):
    """Codes of precall for failures that the provider did not name. A closed set, fit for metric labels."""

    # no response
    TIMEOUT = "timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    PROXY_CONNECT = "proxy_connect"
    PROXY_REFUSED = "proxy_refused"
    PROXY_AUTH = "proxy_auth"
    RESET = "reset"
    TRUNCATED = "truncated"
    BAD_HTTP = "bad_http"
    IO = "io"
    CLOSED = "closed"
    NO_CREDENTIAL = "no_credential"
    UNSENDABLE = "unsendable"
    # a response that is not a reply of the provider
    REDIRECT = "redirect"
    HTML = "html"
    EMPTY = "empty"
    HTTP_5XX = "http_5xx"
    HTTP_429 = "http_429"
    HTTP_404 = "http_404"
    HTTP_DENIED = "http_denied"
    # a reply without a usable answer
    BODY_TOO_LARGE = "body_too_large"
    COMPRESSED = "compressed"
    BAD_JSON = "bad_json"
    BAD_XML = "bad_xml"
    NOT_AN_OBJECT = "not_an_object"
    CONTRADICTORY = "contradictory"
    NO_CODE = "no_code"
    UNKNOWN_CODE = "unknown_code"
    NOT_HTTP_200 = "not_http_200"
    NO_DTO = "no_dto"
    STATUS_NULL = "status_null"
    STATUS_BOOL = "status_bool"
    STATUS_FLOAT = "status_float"
    STATUS_ZERO = "status_zero"
    STATUS_TEXT = "status_text"
    STATUS_TYPE = "status_type"
    UNKNOWN_STATUS = "unknown_status"
    BAD_DATA = "bad_data"
    BAD_EXTENSION = "bad_extension"


_NO_CREDENTIAL = (
    "no credential: set provider.access_key_id and access_key_secret, or give the default credential chain"
    " one"
)
_NOT_FOUND = "the endpoint answers 404: check provider.endpoint; if it is right, the action has been delisted"
_UNKNOWN_ACTION = (
    "the provider does not know this action: it has been delisted, or is not enabled for this account; ask"
    " the provider's support, or set provider.status_source"
)

_NONCE_USED = (
    "a nonce counted as used: if that repeats, look for a proxy that sends requests twice, and check this"
    " machine's clock"
)

MEANINGS: dict[TransportTrouble, tuple[Failure, str]] = {
    TransportTrouble.TIMEOUT: (Failure.TRANSIENT, "no complete reply within provider.timeout"),
    TransportTrouble.CONNECT_TIMEOUT: (Failure.TRANSIENT, "no connection within the connect timeout"),
    TransportTrouble.DNS: (Failure.TRANSIENT, "the endpoint's name does not resolve"),
    TransportTrouble.CONNECT: (Failure.TRANSIENT, "the endpoint refuses connections or cannot be reached"),
    TransportTrouble.TLS: (
        Failure.TRANSIENT,
        "no TLS with the endpoint: its certificate or protocol is not accepted",
    ),
    TransportTrouble.PROXY_CONNECT: (
        Failure.TRANSIENT,
        "the proxy cannot be reached: see provider.proxy, or HTTPS_PROXY in the environment",
    ),
    TransportTrouble.PROXY_REFUSED: (
        Failure.TRANSIENT,
        "the proxy does not lead to the endpoint: allow it there, or set provider.proxy or NO_PROXY",
    ),
    TransportTrouble.PROXY_AUTH: (
        Failure.ACCOUNT,
        "the proxy requires a user and a password: put the right ones into its URL",
    ),
    TransportTrouble.RESET: (Failure.TRANSIENT, "the connection was dropped before a reply"),
    TransportTrouble.TRUNCATED: (Failure.TRANSIENT, "the connection ended within a reply"),
    TransportTrouble.BAD_HTTP: (Failure.TRANSIENT, "what came back is not HTTP"),
    TransportTrouble.IO: (Failure.TRANSIENT, "the connection failed"),
    TransportTrouble.CLOSED: (Failure.TRANSIENT, "the client is not open"),
    TransportTrouble.NO_CREDENTIAL: (Failure.ACCOUNT, _NO_CREDENTIAL),
    TransportTrouble.UNSENDABLE: (Failure.REFUSED, "an id or number holds characters that cannot be sent"),
    TransportTrouble.REDIRECT: (Failure.TRANSIENT, "a redirect; none is followed"),
    TransportTrouble.HTML: (Failure.TRANSIENT, "a web page instead of a reply"),
    TransportTrouble.EMPTY: (Failure.TRANSIENT, "an empty reply"),
    TransportTrouble.HTTP_5XX: (Failure.TRANSIENT, "a server error without a code"),
    TransportTrouble.HTTP_429: (Failure.THROTTLED, "too many requests"),
    TransportTrouble.HTTP_404: (Failure.ACCOUNT, _NOT_FOUND),
    TransportTrouble.HTTP_DENIED: (
        Failure.ACCOUNT,
        "the endpoint, or a proxy in front of it, denies access",
    ),
    TransportTrouble.BODY_TOO_LARGE: (Failure.MALFORMED, "a reply over 64 KiB"),
    TransportTrouble.COMPRESSED: (
        Failure.MALFORMED,
        "a compressed reply, though the request asks for none: look for a gateway or proxy that compresses",
    ),
    TransportTrouble.BAD_JSON: (Failure.MALFORMED, "not JSON"),
    TransportTrouble.BAD_XML: (
        Failure.MALFORMED,
        "not XML, or XML with entities, a DTD or repeated elements",
    ),
    TransportTrouble.NOT_AN_OBJECT: (Failure.MALFORMED, "JSON, but not an object"),
    TransportTrouble.CONTRADICTORY: (
        Failure.MALFORMED,
        "a reply that contradicts itself: a key stands in it twice",
    ),
    TransportTrouble.NO_CODE: (Failure.MALFORMED, "a reply without a Code"),
    TransportTrouble.UNKNOWN_CODE: (Failure.MALFORMED, "a Code that is not known"),
    TransportTrouble.NOT_HTTP_200: (Failure.MALFORMED, "Code OK under an HTTP status that says otherwise"),
    TransportTrouble.NO_DTO: (Failure.MALFORMED, "Code OK without the object that holds the answer"),
    TransportTrouble.STATUS_NULL: (Failure.MALFORMED, "Status is null, missing or empty"),
    TransportTrouble.STATUS_BOOL: (Failure.MALFORMED, "Status is a boolean"),
    TransportTrouble.STATUS_FLOAT: (Failure.MALFORMED, "Status is a fraction"),
    TransportTrouble.STATUS_ZERO: (Failure.MALFORMED, "Status is 0"),
    TransportTrouble.STATUS_TEXT: (Failure.MALFORMED, "Status is text"),
    TransportTrouble.STATUS_TYPE: (Failure.MALFORMED, "Status is a list or an object"),
    TransportTrouble.UNKNOWN_STATUS: (
        Failure.MALFORMED,
        "Status is a number that is not documented: the API changed",
    ),
    TransportTrouble.BAD_DATA: (Failure.MALFORMED, "Data cannot be decoded"),
    TransportTrouble.BAD_EXTENSION: (Failure.MALFORMED, "Extension is not digits"),
}

# First match wins; matched against the whole code, in any case, with or without "isv." or "isp.".
_RULES: tuple[tuple[re.Pattern[str], Failure, str], ...] = tuple(
    (re.compile(rf"(?:is[vp]\.)?(?:{codes})", re.IGNORECASE), failure, explanation)
    for codes, failure, explanation in (
        # -- throttled: HTTP 400 or 200, seldom 429
        (
            r"Throttling.*|.*(?:FLOW_?LIMIT|FLOW_?CONTROL|LIMIT_?CONTROL|QPS_?LIMIT).*",
            Failure.THROTTLED,
            "over the account's quota",
        ),
        # -- stale: the next request has another nonce
        (r"SignatureNonceUsed", Failure.STALE, _NONCE_USED),
        # -- gone: the only code that can end a binding, once confirmed
        (r"SUBS_NOT_EXISTS?", Failure.GONE, f"no such binding in this pool: {SUBS_ID_PLACE}"),
        # -- refused: this binding or pool only
        (r"SUBS_NOT_BELONG", Failure.REFUSED, "the binding belongs to another account"),
        (
            r"POOLKEY_NOT_EXISTS?|PoolKeyNotFound",
            Failure.REFUSED,
            f"this account has no such pool: check pool_key; {POOL_KEY_PLACE}",
        ),
        (r"NO_AVAILABLE_NUMBER", Failure.REFUSED, "the pool has no number left"),
        (
            r"INVALID_PARAMETERS?|ILLEGAL_ARGUMENT|MOBILE_NUMBER_ILLEGAL",
            Failure.REFUSED,
            "a parameter is refused: check subs_id, pool_key and, if it is sent, the calling number",
        ),
        # -- account: every request fails until someone acts
        (r"Invalid(?:Api|Action).*", Failure.ACCOUNT, _UNKNOWN_ACTION),
        (r"(?:Invalid|NoSuch)Version.*", Failure.ACCOUNT, _UNKNOWN_ACTION),
        (
            r"RAM_PERMISSION_DENY|Forbidden(?:\..*)?|NoPermission.*",
            Failure.ACCOUNT,
            "the access key may not call this action: grant it in RAM",
        ),
        (
            r"InvalidAccessKeyId.*|MissingAccessKeyId",
            Failure.ACCOUNT,
            "the access key is unknown, disabled or missing: check provider.access_key_id",
        ),
        (
            r"SignatureDoesNotMatch|IncompleteSignature|InvalidSignature.*|MissingSignature.*",
            Failure.ACCOUNT,
            (
                "the signature is refused: check provider.access_key_secret and provider.signature, and that no"
                " proxy rewrites the Host header"
            ),
        ),
        (
            r"(?:Invalid|Missing)TimeStamp.*",
            Failure.ACCOUNT,
            "the clock is off by more than 15 minutes: set this machine's clock",
        ),
        (
            r"(?:Invalid|Missing)SecurityToken.*|SecurityTokenExpired",
            Failure.ACCOUNT,
            "the security token has expired or is not this key's",
        ),
        (r"InvalidProtocol.*", Failure.ACCOUNT, "the provider wants https: check provider.endpoint"),
        (
            r"OUT_OF_SERVICE|PRODUCT_?UN_?SUBSCRI(?:PT|BE)|ACCOUNT_NOT_EXISTS?|ACCOUNT_ABNORMAL",
            Failure.ACCOUNT,
            "the account is in arrears, blocked, or has not opened the product: see the provider's console",
        ),
        # -- transient
        (r"PARTNER_NOT_EXISTS?", Failure.TRANSIENT, "the platform asks to try later"),
        (r"100008\.0", Failure.TRANSIENT, "data not available"),
        (r"ServiceUnavailable.*|InternalError.*", Failure.TRANSIENT, "the platform failed"),
        # -- refused: a parameter named in the code (MissingSubsId, InvalidParameter.date)
        (r"(?:Missing|Invalid).*", Failure.REFUSED, "a parameter is missing or refused"),
    )
)

_STALE_NONCE = re.compile(r"SignatureNonceUsed", re.IGNORECASE)
_STALE_TOKEN = re.compile(r"(?:Invalid|Missing)SecurityToken.*|SecurityTokenExpired", re.IGNORECASE)


def trouble(what: TransportTrouble, request_id: str = "", retry_after: float | None = None) -> NonAnswer:
    """Return the non-answer for a failure that the provider did not name."""
    failure, explanation = MEANINGS[what]
    return NonAnswer(failure, str(what), explanation, request_id, retry_after)


def classify(
    code: str, http_status: int, request_id: str = "", retry_after: float | None = None
) -> NonAnswer:
    """Return the non-answer for a code other than OK. `retry_after` is in seconds.

    Of unlisted codes, HTTP 429 is throttled, `isp.*` and HTTP 5xx are transient, and `isv.*` is refused. HTTP 404 is an
    unknown action, 401 and 403 are denials, and anything else is malformed.
    """
    shown = safe_code(code) or str(TransportTrouble.UNKNOWN_CODE)
    for pattern, failure, explanation in _RULES:
        if pattern.fullmatch(code):
            return NonAnswer(failure, shown, explanation, request_id, retry_after)
    lowered = code.lower()
    if http_status == 429:
        return NonAnswer(Failure.THROTTLED, shown, "too many requests", request_id, retry_after)
    if lowered.startswith("isp."):
        return NonAnswer(Failure.TRANSIENT, shown, "the platform failed", request_id, retry_after)
    if lowered.startswith("isv."):
        return NonAnswer(Failure.REFUSED, shown, "refused for this binding", request_id, retry_after)
    if (by_status := _by_status(http_status)) is not None:
        failure, explanation = MEANINGS[by_status]
        return NonAnswer(failure, shown, explanation, request_id, retry_after)
    explanation = f"{MEANINGS[TransportTrouble.UNKNOWN_CODE][1]}: {shown}"
    return NonAnswer(
        Failure.MALFORMED, str(TransportTrouble.UNKNOWN_CODE), explanation, request_id, retry_after
    )


def without_code(
    http_status: int, otherwise: TransportTrouble, request_id: str = "", retry_after: float | None = None
) -> NonAnswer:
    """Return the non-answer for a reply without a readable code: by its HTTP status, else `otherwise`."""
    return trouble(_by_status(http_status) or otherwise, request_id, retry_after)


def stale_nonce(reply: NonAnswer) -> bool:
    """Whether the same request with a new nonce may succeed."""
    return _STALE_NONCE.fullmatch(reply.code) is not None


def stale_token(reply: NonAnswer) -> bool:
    """Whether the same request with a newer credential may succeed."""
    return _STALE_TOKEN.fullmatch(reply.code) is not None


def safe_code(code: str) -> str:
    """Return a code fit for logs and labels: at most 64 of [A-Za-z0-9._-], without long digit runs."""
    return _LONG_DIGITS.sub("0", _UNSAFE.sub("", code[:_CODE_LENGTH]))


def _by_status(http_status: int) -> TransportTrouble | None:
    if http_status == 429:
        return TransportTrouble.HTTP_429
    if http_status >= 500:
        return TransportTrouble.HTTP_5XX
    if http_status == 404:
        return TransportTrouble.HTTP_404
    if http_status == 407:
        return TransportTrouble.PROXY_AUTH
    if http_status in (401, 403):
        return TransportTrouble.HTTP_DENIED
    if 300 <= http_status < 400:
        return TransportTrouble.REDIRECT
    return None
