"""The database tables. Other programs may read them: SQL is a public interface.

A test keeps this module and `migrations/` identical. Times are seconds since the Unix epoch in double precision, ids
and numbers are text, and "" means none. Registered columns belong to the registration, observed columns to the
checker, override columns to the operator.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text, text, true

SERIAL = BigInteger().with_variant(Integer, "sqlite")
"""On SQLite only INTEGER PRIMARY KEY is an alias of the rowid; any other type costs a second B-tree."""

REAL = text("action = 'dial_real' AND cause = 'checked'")
"""Changes in which an answer exposed a real number. They are few, and read at every start."""

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
"""Registered facts. `labels` is a JSON object. A binding that is not `sound` has a number that may not be dialled."""

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
"""Observed facts, one row per binding, with the route published at the last change for readers without a caller
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
"""Operator overrides. `means` says which of the binding's numbers to dial. `number` is "", except in rows written by
early versions, which stored the number itself."""

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
"""Runs of equal replies. `request_id` and `seconds` are those of the newest reply. No index covers a column that
changes when a run is extended, so extending one rewrites a single page. Retention finds old runs by their increasing
`id`."""

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
    Column("would_action", Text, nullable=False, server_default=""),
    Column("would_reason", Text, nullable=False, server_default=""),
    Index("ix_route_changes_subs_id", "subs_id", "index"),
    Index("ix_route_changes_real", "at", postgresql_where=REAL, sqlite_where=REAL),
)
"""The append-only change feed: the routes published for readers without a caller, real numbers withheld. `from_state`
is "" for a new binding; `generation` is 0 for a removed one; `flags` are separated by commas. `would_action` and
`would_reason` are "" unless the pool was only observed."""

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
"""The exposure audit: which reader received which side's real number, when and why. `number_hash` is the number's hash
under a secret of this database, for searches by number; "" in rows from before the column existed."""

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
    Column("route_action", Text, nullable=False, server_default=""),
    Index("ix_calls_next_at", "next_at"),
    Index("ix_calls_subs_id", "subs_id", "called_at"),
    Index("ix_calls_called_at", "called_at"),
)
"""Reported calls and how they ended: `result` in one word, `state` as the provider's code, `source` as the origin of
the result. `route_state` is the state of the binding when the call was placed, and `route_action` what precall decided
then, also where the pool was only observed; "" if unknown. `detail` is a JSON object without
numbers. `next_at` is when the provider is queried about the call next, NULL for never."""

number_reports = Table(
    "number_reports",
    metadata,
    Column("subs_id", Text, primary_key=True),
    Column("at", Double, primary_key=True),
    Column("abnormal", Boolean, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("ix_number_reports_received_at", "received_at"),
)
"""Reports pushed by the provider that the number of a binding became abnormal, or normal again."""

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
"""Dials and answers for a sample of the bindings. `binding`, `x` and `face` are pseudonyms."""

orders = Table(
    "orders",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("until", Double),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("index", BigInteger),
    Index("ix_orders_target", "kind", "target", "id"),
    Index("ix_orders_index", "index", unique=True),
)
"""The append-only orders of operators: overrides, pauses and brakes. `target` is the id of a binding for an override,
else a pool key ("": all pools). `generation` is that of an override's binding, else 0. `index` is the index of the
change that an override made; NULL for other orders, and for those of early versions.

The views `pauses` (pool_key, at, reason, by) and `brakes` (pool_key, engaged, at, reason, by) show the pauses in force,
and the newest order for each brake.
"""

members = Table(
    "members",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)
"""The daemons on this database, each with its last sign of life by the clock of the database. `fencing_token` is 0
unless it leads."""

rings = Table(
    "rings",
    metadata,
    Column("ring", Text, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("content", Text, nullable=False),
)
"""The history of the last hours: `daemon` has a row for every 15 s of six hours, `pools` one for every minute of one.
A newer row takes the slot of one that is too old, so the table does not grow. `content` is a JSON object of figures,
of the pools by pool key. Rows older than the ring are left over and mean nothing."""

marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Named values that must survive a restart."""

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
"""The routing policy, for the view: one row with `id` 1, written at each start. Without it the view shows `hold`.
The pools that are only observed have a table of their own, `observed_pools`.

The view `routing_table` (subs_id, action, number, extension, stale_after, expires_at, version) shows the current route
for a reader without a caller, by the clock of the database. Its `number` is "" if the action is `dial_real`: only the
daemon hands out real numbers, with an audit row. `stale_after` goes by `max_age`, whatever the freshness promise.
It is NULL for an expired binding.
"""

observed_pools = Table(
    "observed_pools",
    metadata,
    Column("id", SERIAL, primary_key=True),
    Column("pool_key", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("until", Double),
)
"""When which pools were only observed ("*": all of them). `until` is NULL for as long as it lasts."""
