"""SIP response codes in words: the three-digit states that switches report, such as 502.

Source: RFC 3261, section 21. A code that is not listed there is explained by its class. Codes up to 127 are left out,
since a receipt's Q.850 causes are numbers up to 127.
"""

import re

PHRASES: dict[int, str] = {
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    493: "Undecipherable",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

CLASSES = {
    1: "provisional: the call is being set up",
    2: "success",
    3: "redirection: the callee is to be tried elsewhere",
    4: "client error: this server cannot carry out the request",
    5: "server error: a server failed on a request that seems valid",
    6: "global failure: no server can carry out the request",
}
"""What the first digit of a code means."""

_CODE = re.compile(r"1(?:2[89]|[3-9][0-9])|[2-6][0-9]{2}", re.ASCII)


def sip_meaning(code: str) -> str:
    """Return "SIP 502 Bad Gateway" for 502, the class for a code without a phrase, "" for anything else."""
    if not _CODE.fullmatch(code):
        return ""
    phrase = PHRASES.get(int(code))
    return f"SIP {code} {phrase}" if phrase else f"SIP {code}, {CLASSES[int(code[0])]}"
