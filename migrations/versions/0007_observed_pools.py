"""Pools may be only observed: when, what their routes would be, and what was decided when a call was placed.

The view `routing_table` then shows the registered X, as the daemon does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
WOULD = ("would_action", "would_reason")

# The clauses of 0006 that change, and what takes their place.
CHANGES = {
    "WHEN told <> 'expired' THEN seen_at": "WHEN told <> 'expired' AND state <> 'expired' THEN seen_at",
    "WHEN state = 'expired' THEN 'expired'": "WHEN state = 'expired' AND NOT observed_only THEN 'expired'",
    "WHEN temporary_fresh AND pin_means IN": "WHEN temporary_fresh AND state <> 'expired' AND pin_means IN",
    "WHEN pin IS NOT NULL THEN 'hold'": "WHEN pin IS NOT NULL THEN 'hold' WHEN observed_only THEN 'registered'",
    "p.id AS policy_id,": """p.id AS policy_id,
        EXISTS (SELECT 1 FROM observed_pools q WHERE q.until IS NULL AND q.pool_key IN ('*', b.pool_key))
          AS observed_only,""",
}


def view_of(dialect: str, *, observing: bool) -> str:
    """The statement that makes the view, of this revision or of the one before."""
    scripts = op.get_context().script
    if scripts is None:
        raise AssertionError("a migration runs from its scripts")
    earlier = scripts.get_revision("0006").module
    text = str(earlier.VIEW)
    for before, after in CHANGES.items() if observing else ():
        if text.count(before) != 1:
            raise AssertionError("the view of 0006 is another one")
        text = text.replace(before, after)
    return text.format(**(earlier.SQLITE if dialect == "sqlite" else earlier.POSTGRESQL))


def has_view(connection: sa.Connection) -> bool:
    """Where numbers are sealed there is none."""
    return "routing_table" in sa.inspect(connection).get_view_names()


def upgrade() -> None:
    connection = op.get_bind()
    viewed, dialect = has_view(connection), connection.dialect.name
    op.create_table(
        "observed_pools",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("pool_key", sa.Text, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("until", sa.Double),
    )
    for name in WOULD:
        op.add_column("route_changes", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.add_column("calls", sa.Column("route_action", sa.Text, nullable=False, server_default=""))
    if viewed and dialect == "sqlite":
        op.execute("DROP VIEW routing_table")
        op.execute(view_of(dialect, observing=True))
    elif viewed:
        # Replaced, not made again: those who were granted the view keep it.
        replaced = view_of(dialect, observing=True).replace("CREATE VIEW", "CREATE OR REPLACE VIEW")
        op.execute(replaced)


def downgrade() -> None:
    connection = op.get_bind()
    viewed, dialect = has_view(connection), connection.dialect.name
    if viewed:
        op.execute("DROP VIEW routing_table")
    # The earlier version does not know the reason; its routes are decided at every read.
    op.execute("UPDATE routes SET reason = 'unverified' WHERE reason = 'observed'")
    op.execute("UPDATE route_changes SET reason = 'unverified' WHERE reason = 'observed'")
    op.drop_column("calls", "route_action")
    for name in WOULD:
        op.drop_column("route_changes", name)
    op.drop_table("observed_pools")
    if viewed:
        op.execute(view_of(dialect, observing=False))
