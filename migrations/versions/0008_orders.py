"""Orders of operators in one append-only table, and the daemons on this database with their last sign of life.

The tables `pauses` and `brakes` become views of what is in force. Sealed reasons are carried over as they are: an order
is sealed for the place where its kind was kept before.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# The newest order of each pool, unless a later one has ended those of all pools.
PAUSES = """
CREATE VIEW pauses AS
SELECT o.target AS pool_key, o.at, o.reason, o.by
FROM orders o
WHERE o.kind = 'pause' AND o.action = 'pause'
  AND o.id = (SELECT max(n.id) FROM orders n WHERE n.kind = 'pause' AND n.target = o.target)
  AND o.id > coalesce(
    (SELECT max(n.id) FROM orders n WHERE n.kind = 'pause' AND n.target = '' AND n.action = 'resume'), 0)
"""
BRAKES = """
CREATE VIEW brakes AS
SELECT o.target AS pool_key,
  o.action = 'engage' AND o.id > coalesce(
    (SELECT max(n.id) FROM orders n WHERE n.kind = 'brake' AND n.target = '' AND n.action = 'release'), 0) AS engaged,
  o.at, o.reason, o.by
FROM orders o
WHERE o.kind = 'brake'
  AND o.id = (SELECT max(n.id) FROM orders n WHERE n.kind = 'brake' AND n.target = o.target)
"""

# What stood in these tables was in force whatever the order. One that ended all of a kind stands first, to end none.
CARRIED = """
INSERT INTO orders (kind, target, action, by, at, reason, until, generation)
SELECT kind, target, action, by, at, reason, until, generation FROM (
  SELECT 'override' AS kind, subs_id AS target, action, created_by AS by, created_at AS at, reason, until, generation
    FROM overrides
  UNION ALL
  SELECT 'pause', pool_key, 'pause', by, at, reason, NULL, 0 FROM pauses
  UNION ALL
  SELECT 'brake', pool_key, CASE WHEN engaged THEN 'engage' ELSE 'release' END, by, at, reason, NULL, 0 FROM brakes
) AS earlier
ORDER BY CASE WHEN kind = 'brake' AND action = 'release' AND target = '' THEN 0 ELSE 1 END, at, target, kind
"""


def routing_view(dialect: str) -> str:
    """The statement that makes the view `routing_table`, whose text does not change."""
    scripts = op.get_context().script
    if scripts is None:
        raise AssertionError("a migration runs from its scripts")
    return str(scripts.get_revision("0007").module.view_of(dialect, observing=True))


def has_view(connection: sa.Connection) -> bool:
    """Where numbers are sealed there is none."""
    return "routing_table" in sa.inspect(connection).get_view_names()


def _columns(*between: sa.Column[Any]) -> list[sa.Column[Any]]:
    """The columns that both tables had, and those of one of them."""
    return [
        sa.Column("pool_key", sa.Text, primary_key=True),
        *between,
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    ]


def upgrade() -> None:
    connection = op.get_bind()
    viewed, dialect = has_view(connection), connection.dialect.name
    op.create_table(
        "orders",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("until", sa.Double),
        sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("index", sa.BigInteger),
    )
    op.create_index("ix_orders_target", "orders", ["kind", "target", "id"])
    op.create_index("ix_orders_index", "orders", ["index"], unique=True)
    op.create_table(
        "members",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
    op.execute(CARRIED)
    if viewed and dialect == "sqlite":
        op.execute("DROP VIEW routing_table")
    for table in ("pauses", "brakes"):
        op.rename_table(table, f"{table}_before")
    op.execute(PAUSES)
    op.execute(BRAKES)
    if viewed and dialect == "sqlite":
        op.execute(routing_view(dialect))
    elif viewed:
        # Replaced, not made again: those who were granted the view keep it.
        op.execute(routing_view(dialect).replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    for table in ("pauses", "brakes"):
        op.drop_table(f"{table}_before")


def downgrade() -> None:
    connection = op.get_bind()
    viewed, dialect = has_view(connection), connection.dialect.name
    if viewed:
        op.execute("DROP VIEW routing_table")
    kept = {
        name: [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {name}")).mappings()]  # noqa: S608
        for name in ("pauses", "brakes")
    }
    for name in kept:
        op.execute(f"DROP VIEW {name}")
    pauses = op.create_table("pauses", *_columns())
    brakes = op.create_table("brakes", *_columns(sa.Column("engaged", sa.Boolean, nullable=False)))
    op.bulk_insert(pauses, kept["pauses"])
    op.bulk_insert(brakes, [row | {"engaged": bool(row["engaged"])} for row in kept["brakes"]])
    op.drop_table("members")
    op.drop_table("orders")
    if viewed:
        op.execute(routing_view(dialect))
