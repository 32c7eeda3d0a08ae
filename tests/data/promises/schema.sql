CREATE INDEX ix_calls_called_at ON calls (called_at);
CREATE INDEX ix_calls_next_at ON calls (next_at);
CREATE INDEX ix_calls_subs_id ON calls (subs_id, called_at);
CREATE UNIQUE INDEX ix_check_results_subs_id ON check_results (subs_id, first_seq);
CREATE INDEX ix_exposures_number_hash ON exposures (number_hash, id);
CREATE INDEX ix_exposures_subs_id ON exposures (subs_id, id);
CREATE INDEX ix_number_reports_received_at ON number_reports (received_at);
CREATE UNIQUE INDEX ix_orders_index ON orders ("index");
CREATE INDEX ix_orders_target ON orders (kind, target, id);
CREATE INDEX ix_route_changes_real ON route_changes (at) WHERE action = 'dial_real' AND cause = 'checked';
CREATE INDEX ix_route_changes_subs_id ON route_changes (subs_id, "index");
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE bindings (
	subs_id TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	pool_key TEXT NOT NULL, 
	number_x TEXT NOT NULL, 
	number_a TEXT NOT NULL, 
	number_b TEXT NOT NULL, 
	extension TEXT NOT NULL, 
	expires_at DOUBLE, 
	labels TEXT NOT NULL, 
	origin TEXT NOT NULL, 
	registered_at DOUBLE NOT NULL, sound BOOLEAN DEFAULT 1 NOT NULL, 
	PRIMARY KEY (subs_id)
);
CREATE TABLE calls (
	call_id TEXT NOT NULL, 
	prod_id BIGINT NOT NULL, 
	called_at DOUBLE NOT NULL, 
	subs_id TEXT NOT NULL, 
	reported_at DOUBLE NOT NULL, 
	state TEXT NOT NULL, 
	duration DOUBLE, 
	result TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	next_at DOUBLE, pool_key TEXT DEFAULT '' NOT NULL, route_state TEXT DEFAULT '' NOT NULL, source TEXT DEFAULT '' NOT NULL, route_action TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (call_id)
);
CREATE TABLE check_results (
	id INTEGER NOT NULL, 
	subs_id TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	result TEXT NOT NULL, 
	status INTEGER NOT NULL, 
	number TEXT NOT NULL, 
	extension TEXT NOT NULL, 
	code TEXT NOT NULL, 
	first_seq BIGINT NOT NULL, 
	last_seq BIGINT NOT NULL, 
	first_at DOUBLE NOT NULL, 
	last_at DOUBLE NOT NULL, 
	count BIGINT NOT NULL, 
	request_id TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE dial_log (
	id INTEGER NOT NULL, 
	binding TEXT NOT NULL, 
	pool TEXT NOT NULL, 
	x TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	face TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	verified BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE exposures (
	id INTEGER NOT NULL, 
	subs_id TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	pool_key TEXT NOT NULL, 
	reader TEXT NOT NULL, 
	side TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	first_at DOUBLE NOT NULL, 
	last_at DOUBLE NOT NULL, 
	count BIGINT NOT NULL, number_hash TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE marks (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE members (
	id TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	address TEXT NOT NULL, 
	version TEXT NOT NULL, 
	role TEXT NOT NULL, 
	fencing_token BIGINT NOT NULL, 
	started_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE number_reports (
	subs_id TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	abnormal BOOLEAN NOT NULL, 
	received_at DOUBLE NOT NULL, 
	PRIMARY KEY (subs_id, at)
);
CREATE TABLE observed_pools (
	id INTEGER NOT NULL, 
	pool_key TEXT NOT NULL, 
	since DOUBLE NOT NULL, 
	until DOUBLE, 
	PRIMARY KEY (id)
);
CREATE TABLE orders (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	target TEXT NOT NULL, 
	action TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	reason TEXT NOT NULL, 
	until DOUBLE, 
	generation BIGINT DEFAULT '0' NOT NULL, 
	"index" BIGINT, 
	PRIMARY KEY (id)
);
CREATE TABLE overrides (
	subs_id TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	action TEXT NOT NULL, 
	number TEXT NOT NULL, 
	until DOUBLE, 
	reason TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	created_by TEXT NOT NULL, means TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (subs_id)
);
CREATE TABLE policy (
	id INTEGER NOT NULL, 
	unverified TEXT NOT NULL, 
	fallback TEXT NOT NULL, 
	confirm_real INTEGER NOT NULL, 
	temporary_ttl DOUBLE NOT NULL, 
	real_ttl DOUBLE NOT NULL, 
	x_ttl DOUBLE NOT NULL, 
	skew DOUBLE NOT NULL, 
	max_age DOUBLE NOT NULL, 
	abnormal_max_age DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE rings (
	ring TEXT NOT NULL, 
	slot INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (ring, slot)
);
CREATE TABLE route_changes (
	"index" INTEGER NOT NULL, 
	subs_id TEXT NOT NULL, 
	pool_key TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	cause TEXT NOT NULL, 
	from_state TEXT NOT NULL, 
	to_state TEXT NOT NULL, 
	action TEXT NOT NULL, 
	number TEXT NOT NULL, 
	extension TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	flags TEXT NOT NULL, 
	status INTEGER NOT NULL, 
	request_id TEXT NOT NULL, 
	expires_at DOUBLE, would_action TEXT DEFAULT '' NOT NULL, would_reason TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY ("index")
);
CREATE TABLE routes (
	subs_id TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	status INTEGER NOT NULL, 
	number TEXT NOT NULL, 
	extension TEXT NOT NULL, 
	checked_at DOUBLE NOT NULL, 
	seq BIGINT NOT NULL, 
	streak BIGINT NOT NULL, 
	temp_number TEXT NOT NULL, 
	temp_extension TEXT NOT NULL, 
	temp_at DOUBLE NOT NULL, 
	exposed_at DOUBLE NOT NULL, 
	gone_at DOUBLE NOT NULL, 
	blocked BOOLEAN NOT NULL, 
	failures BIGINT NOT NULL, 
	moves TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	action TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	"index" BIGINT NOT NULL, 
	PRIMARY KEY (subs_id)
);
CREATE VIEW brakes AS
SELECT o.target AS pool_key,
  o.action = 'engage' AND o.id > coalesce(
    (SELECT max(n.id) FROM orders n WHERE n.kind = 'brake' AND n.target = '' AND n.action = 'release'), 0) AS engaged,
  o.at, o.reason, o.by
FROM orders o
WHERE o.kind = 'brake'
  AND o.id = (SELECT max(n.id) FROM orders n WHERE n.kind = 'brake' AND n.target = o.target);
CREATE VIEW pauses AS
SELECT o.target AS pool_key, o.at, o.reason, o.by
FROM orders o
WHERE o.kind = 'pause' AND o.action = 'pause'
  AND o.id = (SELECT max(n.id) FROM orders n WHERE n.kind = 'pause' AND n.target = o.target)
  AND o.id > coalesce(
    (SELECT max(n.id) FROM orders n WHERE n.kind = 'pause' AND n.target = '' AND n.action = 'resume'), 0);
CREATE VIEW routing_table AS
SELECT subs_id,
  CASE told WHEN 'x' THEN 'dial_x' WHEN 'registered' THEN 'dial_x' WHEN 'temporary' THEN 'dial_temp_x'
    WHEN 'real' THEN 'dial_real' ELSE told END AS action,
  CASE told WHEN 'x' THEN dial_number WHEN 'registered' THEN number_x WHEN 'temporary' THEN temp_number
    ELSE '' END AS number,
  CASE told WHEN 'x' THEN dial_extension WHEN 'registered' THEN x_extension WHEN 'temporary' THEN temp_extension
    ELSE '' END AS extension,
  CASE WHEN told <> 'expired' AND state <> 'expired' THEN seen_at
    + CASE WHEN state IN ('temporary', 'fallback') THEN abnormal_max_age ELSE max_age END END AS stale_after,
  expires_at,
  version
FROM (
  SELECT known.*,
    CASE
      WHEN state = 'expired' AND NOT observed_only THEN 'expired'
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
        WHEN temporary_fresh AND state <> 'expired' AND pin_means IN ('', 'temporary') THEN 'temporary'
        ELSE 'hold' END
      WHEN pin IS NOT NULL THEN 'hold' WHEN observed_only THEN 'registered'
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
        json_array_length(r.moves) AS moves, json_extract(r.moves, '$[0]') AS first_move,
        o.action AS pin_action,
        CASE WHEN o.number <> '' AND o.means = '' THEN 'lost' ELSE o.means END AS pin_means, o.until AS pin_until,
        EXISTS (SELECT 1 FROM brakes k WHERE k.engaged AND k.pool_key IN ('', b.pool_key)) AS halted,
        p.id AS policy_id,
        EXISTS (SELECT 1 FROM observed_pools q WHERE q.until IS NULL AND q.pool_key IN ('*', b.pool_key))
          AS observed_only, p.unverified, p.fallback, p.confirm_real, p.temporary_ttl, p.real_ttl, p.x_ttl, p.skew,
        p.max_age, p.abnormal_max_age,
        ((julianday('now') - 2440587.5) * 86400.0) AS now
      FROM bindings b
      JOIN routes r ON r.subs_id = b.subs_id
      LEFT JOIN overrides o ON o.subs_id = b.subs_id AND o.generation = b.generation
      LEFT JOIN policy p ON p.id = 1
    ) AS base
  ) AS known
) AS decided
