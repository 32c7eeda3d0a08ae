"""The voice products whose calls QueryCallDetailByCallId covers: their numbers (ProdId), and names for them.

A call is found under the product that placed it only. The product page says that calls of the voice robot are not
covered. The list there may grow, so other numbers are passed on as they are.

Source: the product page of QueryCallDetailByCallId.
"""

PRODUCTS: dict[str, int] = {
    "voice-notification": 11000000300006,
    "verification-code": 11010000138001,
    "ivr": 11000000300005,
    "click-to-dial": 11000000300004,
    "sip": 11000000300009,
    "smart-outbound": 11030000180001,
}
"""Numbers by name, in the order of the product page."""

LARGEST = 2**63 - 1
"""ProdId is a Long."""

_NAMES = {number: name for name, number in PRODUCTS.items()}


def product_number(text: str) -> int:
    """Return the number of a product, given as a number or a name. Raises ValueError that lists the names."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST)) and int(text) <= LARGEST:
        return int(text)
    if text in PRODUCTS:
        return PRODUCTS[text]
    raise ValueError(f"should be a product's number, such as 11000000300006, or one of {', '.join(PRODUCTS)}")


def product_name(number: int) -> str:
    """Return the name of a product, "" for a number without one."""
    return _NAMES.get(number, "")
