"""The sampled log of dials and answers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dial_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("binding", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("x", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("face", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("dial_log")
