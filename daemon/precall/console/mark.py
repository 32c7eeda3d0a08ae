"""What a page has shown, in short: another mark means that a page would show something else now."""

import hashlib

from precall.core.model import State
from precall.engine.services import Services


def mark(services: Services | None) -> str:
    """Return the mark of now: of the role, the index of the feed, the findings, and the bindings by state."""
    if services is None:
        return "starting"
    table = services.table
    shown = (
        services.role.value,
        services.feed.newest,
        sorted(map(repr, {finding.key for finding in services.status.look().findings})),
        [table.count(state) for state in State],
    )
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]
