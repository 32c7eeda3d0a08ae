"""The tables: what precall keeps, in columns that other programs may read (SQL is an interface).

Only their shape belongs here; how it came about is in `migrations/`, and a test holds both equal. Times are
seconds since the Unix epoch in double precision, ids and numbers are text, "" is "none". Registered columns
belong to the registration, observed columns to the checker, override columns to the operator.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text, text, true

SERIAL = BigInteger().with_variant(Integer, "sqlite")
"""On SQLite only INTEGER PRIMARY KEY is the row's own key; every other type costs a second tree."""

REAL = text("action = 'dial_real' AND cause = 'checked'")
"""The changes by which an answer turned a binding to its real number: few, and looked for at every start."""

metadata = MetaData()

bindings = Table(
    "bindings",
    metadata,
    Column("subs_id", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("pool_key", Text, nullable=False),
    Column("number_x", Text, nullable=False),
    Column("number_a", Text, nullable=False),
    Column("number_b", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("expires_at", Double),
    Column("labels", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("registered_at", Double, nullable=False),
    Column("sound", Boolean, nullable=False, server_default=true()),
)
"""Registered facts. `labels` is a JSON object. A binding that is not `sound` has a number no reader may dial."""

routes = Table(
    "routes",
    metadata,
    Column("subs_id", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("number", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("checked_at", Double, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("streak", BigInteger, nullable=False),
    Column("temp_number", Text, nullable=False),
    Column("temp_extension", Text, nullable=False),
    Column("temp_at", Double, nullable=False),
    Column("exposed_at", Double, nullable=False),
    Column("gone_at", Double, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("moves", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("index", BigInteger, nullable=False),
)
"""Observed facts, one row per binding, and what readers without a caller were told at the last change
(`action`, `reason`). `number` and `extension` are those of the newest answer. `moves` is a JSON array of times."""

overrides = Table(
    "overrides",
    metadata,
    Column("subs_id", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("until", Double),
    Column("reason", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("means", Text, nullable=False, server_default=""),
)
"""Orders of an operator. `means` says which of the binding's numbers is meant; `number` is one that an earlier version
wrote down, "" since."""

check_results = Table(
    "check_results",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("subs_id", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("result", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("number", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Index("ix_check_results_subs_id", "subs_id", "first_seq", unique=True),
)
"""Runs of equal replies; `request_id` and `seconds` are of the newest. No index covers a column that grows with
a run: extending one rewrites one page. A run is found by its binding, old ones by their rising `id`."""

route_changes = Table(
    "route_changes",
    metadata,
    Column("index", SERIAL, primary_key=True, autoincrement=False),
    Column("subs_id", Text, nullable=False),
    Column("pool_key", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("cause", Text, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("number", Text, nullable=False),
    Column("extension", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("expires_at", Double),
    Index("ix_route_changes_subs_id", "subs_id", "index"),
    Index("ix_route_changes_real", "at", postgresql_where=REAL, sqlite_where=REAL),
)
"""The change feed, append-only: what readers without a caller were told, real numbers withheld. `from_state` is ""
for a new binding; `generation` is 0 for a removed one; `flags` are joined by commas."""

exposures = Table(
    "exposures",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("subs_id", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("pool_key", Text, nullable=False),
    Column("reader", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("number_hash", Text, nullable=False, server_default=""),
    Index("ix_exposures_subs_id", "subs_id", "id"),
    Index("ix_exposures_number_hash", "number_hash", "id"),
)
"""The audit: who was handed which side's real number, when, and why. `number_hash` finds the rows of a number ("" in
rows of before there was one): its hash under a secret of this database's own."""

calls = Table(
    "calls",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("prod_id", BigInteger, nullable=False),
    Column("called_at", Double, nullable=False),
    Column("subs_id", Text, nullable=False),
    Column("reported_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("duration", Double),
    Column("result", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("next_at", Double),
    Column("pool_key", Text, nullable=False),
    Column("route_state", Text, nullable=False),
    Column("source", Text, nullable=False),
    Index("ix_calls_next_at", "next_at"),
    Index("ix_calls_subs_id", "subs_id", "called_at"),
    Index("ix_calls_called_at", "called_at"),
)
"""Reported calls and how they ended: `result` in one word, `state` by the provider's code, `source` whose word it is.
`route_state` is the state of the binding when the call was placed. `detail` is a JSON object that holds no number.
`next_at` is when the provider is asked about it, NULL when it is not any more."""

number_reports = Table(
    "number_reports",
    metadata,
    Column("subs_id", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("abnormal", Boolean, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("ix_number_reports_received_at", "received_at"),
)
"""What the provider pushed of the number of a binding: abnormal at a time, or normal again."""

dial_log = Table(
    "dial_log",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("binding", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("x", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("face", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("verified", Boolean, nullable=False),
)
"""Dials and answers of a sampled share of the bindings. `binding`, `x` and `face` are pseudonyms."""

pauses = Table(
    "pauses",
    metadata,
    Column("pool_key", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
)
"""Pools whose background checks are paused; "" is all."""

brakes = Table(
    "brakes",
    metadata,
    Column("pool_key", Text, primary_key=True),
    Column("engaged", Boolean, nullable=False),
    Column("at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
)
"""The last word on each pool's exposure brake; "" is all."""

marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Small facts by name that must survive a restart."""

policy = Table(
    "policy",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("unverified", Text, nullable=False),
    Column("fallback", Text, nullable=False),
    Column("confirm_real", Integer, nullable=False),
    Column("temporary_ttl", Double, nullable=False),
    Column("real_ttl", Double, nullable=False),
    Column("x_ttl", Double, nullable=False),
    Column("skew", Double, nullable=False),
    Column("max_age", Double, nullable=False),
    Column("abnormal_max_age", Double, nullable=False),
)
"""What the operator allows, for the view: one row, with `id` 1, written at each start; without it the view holds.

The view `routing_table` (subs_id, action, number, extension, stale_after, expires_at, version) is what a reader without
a caller is told at this moment, by the clock of the database. Its `number` is "" where the action is `dial_real`: real
numbers are handed out, and audited, by the daemon alone. `stale_after` is NULL for what is expired.
"""
