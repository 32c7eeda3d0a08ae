"""How exactly figures leave the process, whether they are stored, logged or shown.

A double has up to 17 digits, and eleven of those after a point may read like a phone number. Nobody needs them.
"""


def micro(seconds: float) -> float:
    """A duration to the microsecond."""
    return round(seconds, 6)


def significant(figure: float) -> float:
    """A probability or a weight to six significant digits, however small it is."""
    return float(f"{figure:.6g}")
