"""Rounding of figures that are stored, logged or shown.

A double has up to 17 digits, and eleven of them after the point may look like a phone number.
"""


def micro(seconds: float) -> float:
    """Round a duration to the microsecond."""
    return round(seconds, 6)


def significant(figure: float) -> float:
    """Round a probability or a weight to six significant digits."""
    return float(f"{figure:.6g}")
