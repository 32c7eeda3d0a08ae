"""How calls end: whose word it is, and on which route; and what the provider reports of numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ADDED = ("pool_key", "route_state", "source")


def upgrade() -> None:
    for name in ADDED:
        op.add_column("calls", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.execute("UPDATE calls SET result = 'pending' WHERE result = ''")
    op.create_index("ix_calls_called_at", "calls", ["called_at"])
    op.create_table(
        "number_reports",
        sa.Column("subs_id", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, primary_key=True),
        sa.Column("abnormal", sa.Boolean, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
    )
    op.create_index("ix_number_reports_received_at", "number_reports", ["received_at"])


def downgrade() -> None:
    op.drop_table("number_reports")
    op.drop_index("ix_calls_called_at", "calls")
    with op.batch_alter_table("calls") as calls:
        for name in ADDED:
            calls.drop_column(name)
