"""The SQL layer: tables, migrations, and the store that reads and writes them."""

from precall.store.audit import AuditFilter
from precall.store.calls import PollBacklog, StoredCall
from precall.store.cipher import Cipher
from precall.store.leader_lock import LeaderLock
from precall.store.members import MemberBook
from precall.store.migration import check, current, head, upgrade
from precall.store.orders import OrderFilter
from precall.store.persons import HistoryTable
from precall.store.read_only import snapshot
from precall.store.rings import RingRow
from precall.store.rotation import KeyRotation, RotationReport
from precall.store.source_database import ForeignDatabase
from precall.store.store import Store

__all__ = [
    "AuditFilter",
    "Cipher",
    "ForeignDatabase",
    "HistoryTable",
    "KeyRotation",
    "LeaderLock",
    "MemberBook",
    "OrderFilter",
    "PollBacklog",
    "RingRow",
    "RotationReport",
    "Store",
    "StoredCall",
    "check",
    "current",
    "head",
    "snapshot",
    "upgrade",
]
