"""Everything SQL: the tables, their migrations, and the store that reads and writes them."""

from precall.store.audit import Wanted
from precall.store.calls import Backlog, Filed
from precall.store.cipher import Seals
from precall.store.leader_lock import Lead
from precall.store.migration import check, current, head, upgrade
from precall.store.read_only import snapshot
from precall.store.rotation import Rotated, Rotation
from precall.store.source_database import ForeignDatabase
from precall.store.store import Store

__all__ = [
    "Backlog",
    "Filed",
    "ForeignDatabase",
    "Lead",
    "Rotated",
    "Rotation",
    "Seals",
    "Store",
    "Wanted",
    "check",
    "current",
    "head",
    "snapshot",
    "upgrade",
]
