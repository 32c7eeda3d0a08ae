"""Names of time zones as people write them: which are none, and which are but mean something else than they seem to.

A wrong zone shifts every time by hours without another sign of it. So a hint never leads to a zone of another offset:
what looks like an offset gets the zone of that very offset or none, and only a slip of the pen is compared by letters.
"""

import difflib
import re
import zoneinfo

_OFFSET = re.compile(r"(?:UTC|GMT|UT|Z)?\s*([+-]?)\s*([0-9]{1,2})(?::?([0-9]{2}))?", re.IGNORECASE)
_BY_OFFSET = {
    480: "Asia/Shanghai",
    210: "Asia/Tehran",
    270: "Asia/Kabul",
    330: "Asia/Kolkata",
    345: "Asia/Kathmandu",
    390: "Asia/Yangon",
    540: "Asia/Tokyo",
    570: "Australia/Darwin",
}
"""Zones of one offset all year round, by its minutes east of UTC."""
_ETC = range(-14, 13)
"""Hours there is a zone Etc/GMT-h for."""
_IN_CHINA = frozenset(
    {
        "beijing",
        "peking",
        "shenzhen",
        "guangzhou",
        "hangzhou",
        "chengdu",
        "china",
        "china standard time",
    }
)
_SURE = 0.85
_REVERSED = re.compile(r"Etc/GMT([+-])([1-9][0-9]?)")


def mistake(name: str) -> str:
    """Why this is no time zone, and what may be meant; "" when it is one."""
    zones = zoneinfo.available_timezones()
    if name in zones:
        return ""
    hint = _meant(name, zones)
    return f"{name!r} is no time zone" + (f"; did you mean {hint}?" if hint else "; write it as Area/City")


def remark(name: str) -> str:
    """What to know of a zone that is one, "" for nothing: the sign in Etc/GMT+8 is the reverse of that in UTC+8."""
    found = _REVERSED.fullmatch(name)
    if found is None:
        return ""
    behind = found[1] == "+"
    other = f"Etc/GMT{'-' if behind else '+'}{found[2]}"
    return (
        f"{name} is {found[2]} hours {'behind' if behind else 'ahead of'} UTC, for its sign is reversed;"
        f" {found[2]} hours {'ahead of' if behind else 'behind'} it is {other}"
    )


def _meant(name: str, zones: set[str]) -> str:
    plain = name.strip()
    if offset := _OFFSET.fullmatch(plain):
        sign = -1 if offset[1] == "-" else 1
        return _of_offset(sign * (60 * int(offset[2]) + int(offset[3] or 0)))
    if plain.rpartition("/")[2].lower().replace("_", " ") in _IN_CHINA:
        return "Asia/Shanghai"
    folded = {zone.lower(): zone for zone in zones}
    if found := folded.get(plain.lower().replace(" ", "_")):
        return found
    if re.search(r"[0-9]", plain) or "/" not in plain:
        return ""  # an abbreviation or an offset: nearness of letters says nothing of the time
    close = difflib.get_close_matches(plain.lower(), folded, 1, _SURE)
    return folded[close[0]] if close else ""


def _of_offset(minutes: int) -> str:
    if found := _BY_OFFSET.get(minutes):
        return found
    hours, rest = divmod(minutes, 60)
    if rest or -hours not in _ETC:
        return ""
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"
