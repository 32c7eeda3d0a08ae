"""A binding whose numbers may not be dialled says so, and an override says which of its binding's numbers it means.

Both so that the view compares no numbers: two spellings of one number are too much for SQL. What an earlier version
pinned by its digits is taken for what these meant there, by the rules of then. Where numbers are sealed there is no
view, and the daemon sees to it at its start.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

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

# As in 0002, but for `sound` after expiry and `pin_means` in place of numbers compared.
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
      WHEN NOT sound THEN 'hold'
      WHEN pin = 'dial_x' THEN CASE
        WHEN NOT x_confirmed THEN 'hold'
        WHEN pin_means = '' THEN 'x'
        WHEN pin_means = 'registered' THEN 'registered'
        WHEN pin_means = 'observed' AND state = 'normal' AND observed <> '' THEN 'x'
        ELSE 'hold' END
      WHEN pin = 'dial_temp_x' THEN CASE
        WHEN temporary_fresh AND pin_means IN ('', 'temporary') THEN 'temporary'
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
      SELECT b.subs_id, b.expires_at, b.number_x, b.extension AS x_extension, b.sound,
        r.version, r.state, r.streak, r.checked_at, r.exposed_at, r.temp_number, r.temp_extension, r.temp_at,
        r.number AS observed,
        CASE WHEN r.checked_at <> 0 THEN r.checked_at ELSE b.registered_at END AS seen_at,
        CASE WHEN r.state = 'normal' AND r.number <> '' THEN r.number ELSE b.number_x END AS dial_number,
        CASE WHEN r.state = 'normal' AND r.extension <> '' THEN r.extension ELSE b.extension END
          AS dial_extension,
        {moves} AS moves, {first_move} AS first_move,
        o.action AS pin_action,
        CASE WHEN o.number <> '' AND o.means = '' THEN 'lost' ELSE o.means END AS pin_means, o.until AS pin_until,
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

PINNED = """
SELECT o.subs_id, o.action, o.number, b.number_x, CASE WHEN r.state = 'normal' THEN r.number ELSE '' END AS observed,
  r.temp_number
FROM overrides o JOIN bindings b ON b.subs_id = o.subs_id JOIN routes r ON r.subs_id = o.subs_id
WHERE o.number <> '' AND o.number NOT LIKE '~%'
"""

_SEPARATORS = str.maketrans("", "", " \t-()\u00a0")
_PREFIXED = re.compile(r"(?:\+86|0086|86)([0-9]{11})|0(1[3-9][0-9]{9})", re.ASCII)


def plain(number: str) -> str:
    """The form in which earlier versions compared numbers."""
    bare = number.translate(_SEPARATORS)
    found = _PREFIXED.fullmatch(bare)
    return (found[1] or found[2]) if found else bare


def meant(action: str, number: str, number_x: str, observed: str, temporary: str) -> str:
    """Which of the binding's numbers an earlier version pinned by its digits."""
    if action == "dial_temp_x":
        return "temporary" if plain(number) == plain(temporary) else "lost"
    if plain(number) == plain(number_x):
        return "registered"
    return "observed" if plain(number) == plain(observed) else "lost"


def has_view(connection: sa.Connection) -> bool:
    """Where numbers are sealed there is none."""
    return "routing_table" in sa.inspect(connection).get_view_names()


def upgrade() -> None:
    connection = op.get_bind()
    viewed, is_sqlite = has_view(connection), connection.dialect.name == "sqlite"
    if viewed and is_sqlite:
        op.execute("DROP VIEW routing_table")
    op.add_column("bindings", sa.Column("sound", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("overrides", sa.Column("means", sa.Text, nullable=False, server_default=""))
    for subs_id, *facts in connection.execute(sa.text(PINNED)).all():
        connection.execute(
            sa.text("UPDATE overrides SET means = :means, number = '' WHERE subs_id = :subs_id"),
            {"means": meant(*facts), "subs_id": subs_id},
        )
    if viewed and is_sqlite:
        op.execute(VIEW.format(**SQLITE))
    elif viewed:
        # Replaced, not made again: whoever was granted the view keeps it.
        op.execute(VIEW.replace("CREATE VIEW", "CREATE OR REPLACE VIEW").format(**POSTGRESQL))


def downgrade() -> None:
    connection = op.get_bind()
    viewed = has_view(connection)
    if viewed:
        op.execute("DROP VIEW routing_table")
    # The earlier version knows numbers only, and none of these was kept: its orders hold until they are given again.
    op.execute("UPDATE overrides SET action = 'hold' WHERE means <> ''")
    with op.batch_alter_table("overrides") as overrides:
        overrides.drop_column("means")
    with op.batch_alter_table("bindings") as bindings:
        bindings.drop_column("sound")
    if viewed:
        scripts = op.get_context().script
        if scripts is None:
            raise AssertionError("a migration runs from its scripts")
        earlier = scripts.get_revision("0002").module
        compared = {
            name: earlier.normal(name) for name in ("pin_number", "dial_number", "number_x", "temp_number")
        }
        forms = earlier.SQLITE if connection.dialect.name == "sqlite" else earlier.POSTGRESQL
        op.execute(earlier.VIEW.format(**forms, **compared))
