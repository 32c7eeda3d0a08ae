"""The view `routing_table`, the policy it decides by, and what makes PostgreSQL write less.

A later migration that changes a table under the view has to drop and make it anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REAL = sa.text("action = 'dial_real' AND cause = 'checked'")

# Seconds since the epoch at the begin of the statement; how many moves are kept; the oldest of them.
SQLITE = {
    "now": "((julianday('now') - 2440587.5) * 86400.0)",
    "moves": "json_array_length(r.moves)",
    "first_move": "json_extract(r.moves, '$[0]')",
}
POSTGRESQL = {
    "now": "CAST(extract(epoch FROM statement_timestamp()) AS double precision)",
    "moves": "json_array_length(CAST(r.moves AS json))",
    "first_move": "CAST(CAST(r.moves AS json) ->> 0 AS double precision)",
}

# In the order of precedence: no policy yet, expiry, override, the newest answer. `known`, `told` and `pin` are what the
# steps before it made of a row; numbers compare without punctuation, country code and trunk zero.
VIEW = """
CREATE VIEW routing_table AS
SELECT subs_id,
  CASE told WHEN 'x' THEN 'dial_x' WHEN 'registered' THEN 'dial_x' WHEN 'temporary' THEN 'dial_temp_x'
    WHEN 'real' THEN 'dial_real' ELSE told END AS action,
  CASE told WHEN 'x' THEN dial_number WHEN 'registered' THEN number_x WHEN 'temporary' THEN temp_number
    ELSE '' END AS number,
  CASE told WHEN 'x' THEN dial_extension WHEN 'registered' THEN x_extension WHEN 'temporary' THEN temp_extension
    ELSE '' END AS extension,
  CASE WHEN told <> 'expired' THEN seen_at
    + CASE WHEN state IN ('temporary', 'fallback') THEN abnormal_max_age ELSE max_age END END AS stale_after,
  expires_at,
  version
FROM (
  SELECT known.*,
    CASE
      WHEN state = 'expired' THEN 'expired'
      WHEN policy_id IS NULL THEN 'hold'
      WHEN expires_at IS NOT NULL AND now >= expires_at - skew THEN 'expired'
      WHEN pin = 'dial_x' THEN CASE
        WHEN NOT x_confirmed THEN 'hold'
        WHEN pin_number = '' THEN 'x'
        WHEN {pin_number} = {dial_number} THEN 'x'
        WHEN {pin_number} = {number_x} THEN 'registered'
        ELSE 'hold' END
      WHEN pin = 'dial_temp_x' THEN CASE
        WHEN temporary_fresh AND (pin_number = '' OR {pin_number} = {temp_number}) THEN 'temporary'
        ELSE 'hold' END
      WHEN pin IS NOT NULL THEN 'hold'
      WHEN state = 'unverified' THEN CASE WHEN unverified = 'dial_x' AND x_confirmed THEN 'x' ELSE 'hold' END
      WHEN state = 'normal' AND temporary_fresh AND moves = 5 AND now - first_move <= 600 THEN 'temporary'
      WHEN state = 'normal' THEN CASE WHEN x_confirmed THEN 'x' ELSE 'hold' END
      WHEN state = 'temporary' THEN CASE WHEN temporary_fresh THEN 'temporary' ELSE 'hold' END
      WHEN state = 'fallback' AND fallback = 'dial_real' AND streak >= confirm_real
        AND now - checked_at <= real_ttl AND exposed_at <> 0 AND NOT halted THEN 'real'
      ELSE 'hold'
    END AS told
  FROM (
    SELECT base.*,
      expires_at IS NOT NULL OR now - seen_at <= x_ttl AS x_confirmed,
      temp_number <> '' AND now - temp_at <= temporary_ttl AS temporary_fresh,
      CASE WHEN pin_until IS NULL OR now < pin_until THEN pin_action END AS pin
    FROM (
      SELECT b.subs_id, b.expires_at, b.number_x, b.extension AS x_extension,
        r.version, r.state, r.streak, r.checked_at, r.exposed_at, r.temp_number, r.temp_extension, r.temp_at,
        CASE WHEN r.checked_at <> 0 THEN r.checked_at ELSE b.registered_at END AS seen_at,
        CASE WHEN r.state = 'normal' AND r.number <> '' THEN r.number ELSE b.number_x END AS dial_number,
        CASE WHEN r.state = 'normal' AND r.extension <> '' THEN r.extension ELSE b.extension END
          AS dial_extension,
        {moves} AS moves, {first_move} AS first_move,
        o.action AS pin_action, o.number AS pin_number, o.until AS pin_until,
        EXISTS (SELECT 1 FROM brakes k WHERE k.engaged AND k.pool_key IN ('', b.pool_key)) AS halted,
        p.id AS policy_id, p.unverified, p.fallback, p.confirm_real, p.temporary_ttl, p.real_ttl, p.x_ttl, p.skew,
        p.max_age, p.abnormal_max_age,
        {now} AS now
      FROM bindings b
      JOIN routes r ON r.subs_id = b.subs_id
      LEFT JOIN overrides o ON o.subs_id = b.subs_id AND o.generation = b.generation
      LEFT JOIN policy p ON p.id = 1
    ) AS base
  ) AS known
) AS decided
"""


def normal(number: str) -> str:
    """SQL for `number` in the form in which numbers compare; NULL, equal to nothing, for none."""
    bare = f"nullif({number}, '')"
    for character in (" ", "\t", "-", "(", ")", "\u00a0"):
        bare = f"replace({bare}, '{character}', '')"
    digits = f"rtrim(substr({bare}, {{}}), '0123456789') = ''"
    return f"""(CASE
          WHEN length({bare}) = 14 AND substr({bare}, 1, 3) = '+86' AND {digits.format(4)} THEN substr({bare}, 4)
          WHEN length({bare}) = 15 AND substr({bare}, 1, 4) = '0086' AND {digits.format(5)} THEN substr({bare}, 5)
          WHEN length({bare}) = 13 AND substr({bare}, 1, 2) = '86' AND {digits.format(3)} THEN substr({bare}, 3)
          WHEN length({bare}) = 12 AND substr({bare}, 1, 2) = '01' AND {digits.format(1)}
            AND substr({bare}, 3, 1) IN ('3', '4', '5', '6', '7', '8', '9') THEN substr({bare}, 2)
          ELSE {bare} END)"""


def upgrade() -> None:
    op.create_table(
        "policy",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("unverified", sa.Text, nullable=False),
        sa.Column("fallback", sa.Text, nullable=False),
        sa.Column("confirm_real", sa.Integer, nullable=False),
        sa.Column("temporary_ttl", sa.Double, nullable=False),
        sa.Column("real_ttl", sa.Double, nullable=False),
        sa.Column("x_ttl", sa.Double, nullable=False),
        sa.Column("skew", sa.Double, nullable=False),
        sa.Column("max_age", sa.Double, nullable=False),
        sa.Column("abnormal_max_age", sa.Double, nullable=False),
    )
    op.create_index(
        "ix_route_changes_real", "route_changes", ["at"], postgresql_where=REAL, sqlite_where=REAL
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    compared = {name: normal(name) for name in ("pin_number", "dial_number", "number_x", "temp_number")}
    op.execute(VIEW.format(**(SQLITE if is_sqlite else POSTGRESQL), **compared))
    if not is_sqlite:
        # Room for the next version of a row on its own page: then no index is written and pages clean themselves.
        op.execute("ALTER TABLE routes SET (fillfactor = 70)")
        op.execute("ALTER TABLE check_results SET (fillfactor = 85)")


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.execute("ALTER TABLE check_results RESET (fillfactor)")
        op.execute("ALTER TABLE routes RESET (fillfactor)")
    op.execute("DROP VIEW routing_table")
    op.drop_index("ix_route_changes_real", "route_changes")
    op.drop_table("policy")
