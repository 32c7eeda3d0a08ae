"""Validation of time zone names, with hints for wrong and misleading ones.

A wrong zone shifts every time by hours, without any other sign. So a hint never names a zone with another offset:
an offset gets the zone of exactly that offset or none, and only typing errors are compared by their letters.
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
"""Zones with the same offset all year, by minutes east of UTC."""
_ETC = range(-14, 13)
"""Hours h with a zone Etc/GMT-h."""
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
    """Return why this is not a time zone and what may be meant, "" if it is one."""
    zones = zoneinfo.available_timezones()
    if name in zones:
        return ""
    hint = _meant(name, zones)
    return f"{name!r} is not a time zone" + (f"; did you mean {hint}?" if hint else "; write it as Area/City")


def remark(name: str) -> str:
    """Return a remark about a misleading zone, "" for others. The sign of Etc/GMT+8 is the reverse of UTC+8."""
    found = _REVERSED.fullmatch(name)
    if found is None:
        return ""
    behind = found[1] == "+"
    other = f"Etc/GMT{'-' if behind else '+'}{found[2]}"
    return (
        f"{name} is {found[2]} hours {'behind' if behind else 'ahead of'} UTC, since its sign is reversed;"
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
        return ""  # an abbreviation or an offset: similar letters do not mean a similar time
    close = difflib.get_close_matches(plain.lower(), folded, 1, _SURE)
    return folded[close[0]] if close else ""


def _of_offset(minutes: int) -> str:
    if found := _BY_OFFSET.get(minutes):
        return found
    hours, rest = divmod(minutes, 60)
    if rest or -hours not in _ETC:
        return ""
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"
