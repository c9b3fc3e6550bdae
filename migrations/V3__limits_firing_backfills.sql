-- expand
-- Limits that hold across pipelines, what is decided about the times of triggers, and backfills.

-- === definitions ===

-- At most so many blocks at once: of a workspace (`workspace`), of a key that blocks name, or of each key that begins with
-- a name that ends in `*`.
CREATE TABLE block_limit (
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- NULL once it was removed: schedulers hear of that by its change.
    max_blocks   integer CHECK (max_blocks BETWEEN 1 AND 1000000),
    source       text NOT NULL CHECK (source IN ('project', 'api')),
    changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace_id, name)
);
CREATE INDEX block_limit_by_change ON block_limit (changed_at);

-- === runtime state ===

-- The permits of one key of one workspace. A unit starts with a permit that its shard holds.
CREATE TABLE limit_pool (
    workspace_id uuid NOT NULL,
    key          text NOT NULL,
    -- The limit, or what was granted already when it was lowered.
    max          integer NOT NULL CHECK (max >= 0),
    used         integer NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, key),
    CONSTRAINT limit_pool_is_not_exceeded CHECK (used BETWEEN 0 AND max)
) WITH (fillfactor = 50);

CREATE TABLE limit_hold (
    workspace_id uuid NOT NULL,
    key          text NOT NULL,
    shard        smallint NOT NULL,
    held         integer NOT NULL CHECK (held >= 0),
    -- What it could use if there were enough.
    wanted       integer NOT NULL CHECK (wanted >= 0),
    PRIMARY KEY (workspace_id, key, shard)
) WITH (fillfactor = 50);
-- What a new owner counts again.
CREATE INDEX limit_hold_by_shard ON limit_hold (shard);

-- Up to where a trigger's times are decided. Written in the transaction that writes the decisions.
CREATE TABLE trigger_state (
    trigger_id uuid PRIMARY KEY,
    shard      smallint NOT NULL,
    -- The trigger's version that next_due was computed with.
    version    bigint NOT NULL,
    -- domain::trigger::State
    state      jsonb NOT NULL,
    -- What starts that wait are to be told, by their key.
    waiting    jsonb NOT NULL DEFAULT '{}',
    -- Of runs that have ended, as far as the trigger's times depend on them.
    history    jsonb NOT NULL DEFAULT '{}',
    -- When it will be looked at again; NULL until something happens.
    next_due   timestamptz
) WITH (fillfactor = 70);

ALTER TABLE firing
    ADD COLUMN trigger_version bigint,
    -- The logical time; of a skipped span its first one.
    ADD COLUMN execution_date  timestamptz,
    -- Of a skipped span: its last time, and how many.
    ADD COLUMN last_date       timestamptz,
    ADD COLUMN times           integer NOT NULL DEFAULT 1 CHECK (times > 0);
-- The history of a trigger, newest first.
CREATE INDEX firing_by_time ON firing (trigger_id, created_at, logical_key);

-- A cursor over the intervals of a range. Its runs' firings are keyed by its id.
CREATE TABLE backfill (
    id                   uuid PRIMARY KEY,
    workspace_id         uuid NOT NULL,
    pipeline_id          uuid NOT NULL,
    shard                smallint NOT NULL,
    name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    start_at             timestamptz NOT NULL,
    -- The last interval begins at it or before.
    end_at               timestamptz NOT NULL,
    unit                 text NOT NULL CHECK (unit IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'year')),
    every                integer NOT NULL CHECK (every > 0),
    time_zone            text NOT NULL,
    descending           boolean NOT NULL,
    parallelism          integer NOT NULL CHECK (parallelism BETWEEN 1 AND 1000),
    variables            jsonb NOT NULL DEFAULT '{}',
    allow_blocks_to_fail boolean NOT NULL DEFAULT false,
    status               text NOT NULL CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled')),
    total                bigint NOT NULL CHECK (total > 0),
    started              bigint NOT NULL DEFAULT 0,
    completed            bigint NOT NULL DEFAULT 0,
    failed               bigint NOT NULL DEFAULT 0,
    cancelled            bigint NOT NULL DEFAULT 0,
    created_at           timestamptz NOT NULL DEFAULT now(),
    completed_at         timestamptz,
    CONSTRAINT backfill_name_unique UNIQUE (pipeline_id, name),
    CONSTRAINT backfill_counts_add_up CHECK (completed + failed + cancelled <= started AND started <= total),
    CONSTRAINT backfill_range_goes_forward CHECK (start_at <= end_at)
) WITH (fillfactor = 70);
CREATE INDEX backfill_by_workspace ON backfill (workspace_id, id);
-- What an owner loads when it takes a shard.
CREATE INDEX backfill_unfinished ON backfill (shard) WHERE status IN ('running', 'paused') OR completed + failed + cancelled < started;

ALTER TABLE run
    -- The backfill that it belongs to; it counts for that and not for its trigger.
    ADD COLUMN backfill_id     uuid,
    -- What an event or a caller told beside the variables.
    ADD COLUMN event_variables jsonb,
    -- Until when it should have ended.
    ADD COLUMN sla_at          timestamptz,
    -- When it was found that it had not.
    ADD COLUMN sla_missed_at   timestamptz;
CREATE INDEX run_by_backfill ON run (backfill_id, id) WHERE backfill_id IS NOT NULL;
