"""The audit can be asked which readers were handed a number: by a keyed hash of it, the number itself is not kept."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exposures", sa.Column("number_hash", sa.Text, nullable=False, server_default=""))
    op.create_index("ix_exposures_number_hash", "exposures", ["number_hash", "id"])


def downgrade() -> None:
    op.drop_index("ix_exposures_number_hash", "exposures")
    op.drop_column("exposures", "number_hash")
