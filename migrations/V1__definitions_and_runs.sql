-- expand
-- Definitions are written by web-servers, runtime state by schedulers; no table has two writers.

-- === definitions ===

CREATE TABLE workspace (
    id            uuid PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- The bundle in force; NULL before the first deployment.
    bundle_digest text,
    deployed_at   timestamptz,
    CONSTRAINT workspace_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);

CREATE TABLE bundle (
    digest       text PRIMARY KEY,
    project_name text NOT NULL,
    file_count   integer NOT NULL CHECK (file_count >= 0),
    size_bytes   bigint NOT NULL CHECK (size_bytes >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT bundle_digest_is_sha256 CHECK (digest ~ '^sha256:[0-9a-f]{64}$')
);

CREATE TABLE pipeline (
    id           uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    name         text NOT NULL,
    -- The version in force.
    version      bigint NOT NULL CHECK (version > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    archived_at  timestamptz,
    CONSTRAINT pipeline_name_unique UNIQUE (workspace_id, name)
);

-- Immutable: a run stays on the version that it started with.
CREATE TABLE pipeline_version (
    pipeline_id   uuid NOT NULL REFERENCES pipeline (id),
    version       bigint NOT NULL,
    bundle_digest text NOT NULL REFERENCES bundle (digest),
    -- domain::Pipeline
    spec          jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline_id, version)
);

-- Desired state from triggers.yaml, and one built-in manual trigger per pipeline.
CREATE TABLE trigger (
    id          uuid PRIMARY KEY,
    pipeline_id uuid NOT NULL REFERENCES pipeline (id),
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('manual', 'api', 'event', 'time')),
    version     bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    active      boolean NOT NULL,
    spec        jsonb NOT NULL DEFAULT '{}',
    source      text NOT NULL CHECK (source IN ('built-in', 'project', 'api')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    CONSTRAINT trigger_name_unique UNIQUE (pipeline_id, name)
);

-- Answers of mutations on definitions, by the key that the client chose.
CREATE TABLE idempotency (
    method       text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    -- A key used again with another request is refused.
    request_hash bytea NOT NULL,
    response     bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (method, key)
);

-- === runtime state ===

-- One life of a scheduler process. An owner whose lease has passed owns nothing.
CREATE TABLE scheduler (
    id          uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- A slice of the runs (and of the triggers), and the generation of its owner. Taking a shard raises the epoch; every
-- write of its owner names the epoch, so that an owner that was replaced writes nothing.
CREATE TABLE shard (
    id    smallint PRIMARY KEY CHECK (id BETWEEN 0 AND 255),
    epoch bigint NOT NULL DEFAULT 0,
    owner uuid
) WITH (fillfactor = 50);
INSERT INTO shard (id) SELECT generate_series(0, 255);

-- The decision about one logical time of one trigger. Kept at least as long as the catch-up window, whatever becomes of
-- the run.
CREATE TABLE firing (
    trigger_id  uuid NOT NULL,
    logical_key text NOT NULL CHECK (length(logical_key) BETWEEN 1 AND 255),
    decided     text NOT NULL CHECK (decided IN ('fired', 'skipped')),
    reason      text,
    run_id      uuid,
    shard_epoch bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trigger_id, logical_key),
    CONSTRAINT firing_has_run_or_reason CHECK ((decided = 'fired') = (run_id IS NOT NULL) AND (decided = 'skipped') = (reason IS NOT NULL))
);

CREATE TABLE run (
    id                   uuid PRIMARY KEY,
    workspace_id         uuid NOT NULL,
    pipeline_id          uuid NOT NULL,
    pipeline_version     bigint NOT NULL,
    trigger_id           uuid NOT NULL,
    shard                smallint NOT NULL,
    status               text NOT NULL CHECK (status IN ('initial', 'running', 'completed', 'failed', 'cancelled')),
    variables            jsonb NOT NULL DEFAULT '{}',
    execution_date       timestamptz NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    started_at           timestamptz,
    completed_at         timestamptz,
    -- Seconds from started_at; NULL means none.
    timeout_s            integer CHECK (timeout_s > 0),
    allow_blocks_to_fail boolean NOT NULL DEFAULT false,
    -- Set once somebody asked; the run is cancelled when what it ran has stopped.
    cancel_reason        text,
    reason               text,
    -- The run that this one retries, or whose code started it.
    parent_run_id        uuid,
    CONSTRAINT run_ended_has_time CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX run_by_pipeline ON run (pipeline_id, id);
CREATE INDEX run_by_workspace ON run (workspace_id, id);
-- What an owner loads when it takes a shard.
CREATE INDEX run_unfinished ON run (shard) WHERE status IN ('initial', 'running');

-- A block that has no row has not started: readiness is derived from the graph, never stored.
-- One row per block, per dynamic child (child >= 0) and per callback (`<callback>:<watched block>`), updated in place
-- without touching an index.
CREATE TABLE block_run (
    run_id         uuid NOT NULL,
    block          text NOT NULL,
    child          integer NOT NULL DEFAULT -1 CHECK (child >= -1),
    status         text NOT NULL CHECK (status IN
        ('initial', 'running', 'completed', 'failed', 'cancelled', 'upstream_failed', 'condition_failed')),
    -- Rises with every claim and never falls; the fence of the attempt.
    lease          bigint NOT NULL DEFAULT 0,
    -- Tries of the user's code that count against the retry policy.
    attempts       integer NOT NULL DEFAULT 0,
    -- Executors that died while they ran it.
    deaths         smallint NOT NULL DEFAULT 0,
    executor_id    uuid,
    -- When the next try may start.
    not_before     timestamptz,
    -- Of the first try; attempt_started_at is that of the latest.
    started_at     timestamptz,
    attempt_started_at timestamptz,
    completed_at   timestamptz,
    -- Outputs of the accepted attempt: the pointer that makes its directory visible.
    output         jsonb,
    error          jsonb,
    -- A block whose upstream is dynamic: how many children it has.
    children       integer CHECK (children >= 0),
    PRIMARY KEY (run_id, block, child),
    CONSTRAINT block_run_running_has_executor CHECK (status <> 'running' OR executor_id IS NOT NULL OR children IS NOT NULL)
) WITH (fillfactor = 70);

-- Attempts that did not become the block's result: failed and tried again, lost with their executor, or given back.
CREATE TABLE attempt (
    run_id      uuid NOT NULL,
    block       text NOT NULL,
    child       integer NOT NULL,
    lease       bigint NOT NULL,
    executor_id uuid,
    outcome     text NOT NULL CHECK (outcome IN ('failed', 'lost', 'released')),
    started_at  timestamptz,
    ended_at    timestamptz NOT NULL DEFAULT now(),
    error       jsonb,
    PRIMARY KEY (run_id, block, child, lease)
);

CREATE TABLE executor (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    backend      text NOT NULL,
    slots        integer NOT NULL CHECK (slots >= 0),
    version      text NOT NULL,
    state        text NOT NULL CHECK (state IN ('online', 'draining', 'lost', 'gone')),
    running      integer NOT NULL DEFAULT 0,
    connected_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- Partitioned by day; retention drops partitions. The owner of shard 0 creates them ahead.
CREATE TABLE log_line (
    id      bigint GENERATED ALWAYS AS IDENTITY,
    run_id  uuid NOT NULL,
    at      timestamptz NOT NULL,
    block   text NOT NULL DEFAULT '',
    child   integer NOT NULL DEFAULT -1,
    lease   bigint NOT NULL DEFAULT 0,
    -- 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    level   smallint NOT NULL,
    stream  text NOT NULL,
    message text NOT NULL
) PARTITION BY RANGE (at);
CREATE TABLE log_line_default PARTITION OF log_line DEFAULT;
CREATE INDEX log_line_by_run ON log_line (run_id, id);
