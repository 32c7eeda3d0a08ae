"""The tables of version 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "bindings",
        sa.Column("subs_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("pool_key", sa.Text, nullable=False),
        sa.Column("number_x", sa.Text, nullable=False),
        sa.Column("number_a", sa.Text, nullable=False),
        sa.Column("number_b", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("registered_at", sa.Double, nullable=False),
    )
    op.create_table(
        "routes",
        sa.Column("subs_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("checked_at", sa.Double, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("streak", sa.BigInteger, nullable=False),
        sa.Column("temp_number", sa.Text, nullable=False),
        sa.Column("temp_extension", sa.Text, nullable=False),
        sa.Column("temp_at", sa.Double, nullable=False),
        sa.Column("exposed_at", sa.Double, nullable=False),
        sa.Column("gone_at", sa.Double, nullable=False),
        sa.Column("blocked", sa.Boolean, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("moves", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("index", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "overrides",
        sa.Column("subs_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("until", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
    )
    op.create_table(
        "check_results",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("subs_id", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    op.create_index("ix_check_results_subs_id", "check_results", ["subs_id", "first_seq"], unique=True)
    op.create_table(
        "route_changes",
        sa.Column("index", SERIAL, primary_key=True, autoincrement=False),
        sa.Column("subs_id", sa.Text, nullable=False),
        sa.Column("pool_key", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("extension", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double),
    )
    op.create_index("ix_route_changes_subs_id", "route_changes", ["subs_id", "index"])
    op.create_table(
        "exposures",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("subs_id", sa.Text, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("pool_key", sa.Text, nullable=False),
        sa.Column("reader", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_exposures_subs_id", "exposures", ["subs_id", "id"])
    op.create_table(
        "calls",
        sa.Column("call_id", sa.Text, primary_key=True),
        sa.Column("prod_id", sa.BigInteger, nullable=False),
        sa.Column("called_at", sa.Double, nullable=False),
        sa.Column("subs_id", sa.Text, nullable=False),
        sa.Column("reported_at", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("duration", sa.Double),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("next_at", sa.Double),
    )
    op.create_index("ix_calls_next_at", "calls", ["next_at"])
    op.create_index("ix_calls_subs_id", "calls", ["subs_id", "called_at"])
    op.create_table(
        "pauses",
        sa.Column("pool_key", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.create_table(
        "brakes",
        sa.Column("pool_key", sa.Text, primary_key=True),
        sa.Column("engaged", sa.Boolean, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "marks",
        "brakes",
        "pauses",
        "calls",
        "exposures",
        "route_changes",
        "check_results",
        "overrides",
        "routes",
        "bindings",
    ):
        op.drop_table(table)
