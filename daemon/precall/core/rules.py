"""The rules for the fields of a binding, the same wherever a binding comes from.

Registrations, rows of the customer's own query and pushed receipts all obey them. Phone numbers have rules of their
own, in `numbers`. A pattern covers the whole text, as with `fullmatch`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

SUBS_ID = r"[0-9]{1,32}"
POOL_KEY = r"[!-~]{1,64}"
EXTENSION = r"[0-9]{0,20}"
MAX_LABELS = 16
MAX_LABEL_KEY = 64
MAX_LABEL_VALUE = 256
YEAR_10000 = 253_402_300_800
"""Unix seconds. A time from then on has no RFC 3339 form."""

NOT_A_SUBS_ID = "should be 1 to 32 digits"
NOT_A_POOL_KEY = "should be 1 to 64 printable characters without a space"
NOT_AN_EXTENSION = "should be at most 20 digits"
NOT_A_TIME = "should lie between the years 1970 and 9999"

_SUBS_ID = re.compile(SUBS_ID, re.ASCII)
_POOL_KEY = re.compile(POOL_KEY, re.ASCII)
_EXTENSION = re.compile(EXTENSION, re.ASCII)


def is_subs_id(text: str) -> bool:
    """Whether this can be the provider's id of a binding."""
    return _SUBS_ID.fullmatch(text) is not None


def is_pool_key(text: str) -> bool:
    """Whether this can be the key of a number pool."""
    return _POOL_KEY.fullmatch(text) is not None


def is_extension(text: str) -> bool:
    """Whether this can be the extension of a number X, "" for none."""
    return _EXTENSION.fullmatch(text) is not None


def is_time(seconds: float | Decimal) -> bool:
    """Whether Unix seconds lie in the years that can be stored and shown."""
    return 0 <= seconds < YEAR_10000


def fault_of_labels(labels: Mapping[str, str]) -> str:
    """Return why these labels cannot be stored, without repeating them; "" if they can."""
    if len(labels) > MAX_LABELS:
        return f"are more than {MAX_LABELS}"
    for key, value in labels.items():
        if not 0 < len(key) <= MAX_LABEL_KEY or len(value) > MAX_LABEL_VALUE:
            return (
                f"should have keys of 1 to {MAX_LABEL_KEY} and texts of at most {MAX_LABEL_VALUE} characters"
            )
        if not (key.isprintable() and value.isprintable()):
            return "should be printable"
    return ""
