-- expand
-- Search over log lines, statistics that stay cheap with history, and notifications.

-- === logs ===

ALTER TABLE log_line ADD COLUMN block_type text NOT NULL DEFAULT '';
CREATE INDEX log_line_by_id ON log_line (id);

-- What lies between two ids of log_line: a search skips what cannot hold a match. Written once ids below last_id can
-- no longer appear; each row goes on where the one before ended, so that two writers cannot both add one.
CREATE TABLE log_chunk (
    after_id   bigint PRIMARY KEY,
    last_id    bigint NOT NULL,
    lines      integer NOT NULL CHECK (lines > 0),
    min_at     timestamptz NOT NULL,
    max_at     timestamptz NOT NULL,
    max_level  smallint NOT NULL,
    workspaces uuid[] NOT NULL,
    pipelines  uuid[] NOT NULL,
    triggers   uuid[] NOT NULL,
    -- A Bloom filter of the lines' sequences of five characters; its length in bits is a power of two.
    grams      bytea NOT NULL,
    CONSTRAINT log_chunk_goes_up CHECK (last_id > after_id)
);
ALTER TABLE log_chunk ALTER COLUMN grams SET STORAGE EXTERNAL;

-- === ends of runs ===

-- Written in the commit that ends a run, taken by the recorder in the transaction that counts it and notes who is to
-- be told: each end is counted once, and nothing of it waits in the engine.
CREATE TABLE run_end (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id       uuid NOT NULL,
    status       text NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled')),
    -- Of this life of the run: a retry in place starts another.
    started_at   timestamptz,
    completed_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- === statistics: by day (UTC) of the end ===

-- A bucket holds durations from 2^(bucket/4) to 2^((bucket+1)/4) milliseconds; 0 also what is shorter.
CREATE TABLE run_stat (
    workspace_id uuid NOT NULL,
    day          date NOT NULL,
    pipeline_id  uuid NOT NULL,
    trigger_id   uuid NOT NULL,
    status       text NOT NULL,
    bucket       smallint NOT NULL,
    runs         bigint NOT NULL,
    total_ms     double precision NOT NULL,
    longest_ms   double precision NOT NULL,
    PRIMARY KEY (workspace_id, day, pipeline_id, trigger_id, status, bucket)
) WITH (fillfactor = 70);

CREATE TABLE block_stat (
    workspace_id uuid NOT NULL,
    day          date NOT NULL,
    pipeline_id  uuid NOT NULL,
    block        text NOT NULL,
    status       text NOT NULL,
    bucket       smallint NOT NULL,
    runs         bigint NOT NULL,
    total_ms     double precision NOT NULL,
    longest_ms   double precision NOT NULL,
    PRIMARY KEY (workspace_id, day, pipeline_id, block, status, bucket)
) WITH (fillfactor = 70);

-- From the time that a schedule named to the creation of its run.
CREATE TABLE lateness_stat (
    workspace_id uuid NOT NULL,
    day          date NOT NULL,
    pipeline_id  uuid NOT NULL,
    trigger_id   uuid NOT NULL,
    bucket       smallint NOT NULL,
    runs         bigint NOT NULL,
    total_ms     double precision NOT NULL,
    longest_ms   double precision NOT NULL,
    PRIMARY KEY (workspace_id, day, pipeline_id, trigger_id, bucket)
) WITH (fillfactor = 70);

-- === notifications ===

-- A definition: whom to tell of a workspace's runs, or of one pipeline's. The form is that of notification_config.
CREATE TABLE notification_config (
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    -- The nil uuid stands for every pipeline.
    pipeline_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    config       jsonb NOT NULL,
    version      bigint NOT NULL DEFAULT 1,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, pipeline_id)
);

-- Runtime state: what is to be sent, and what became of it. Where it goes is read from the configuration when it is
-- sent, so that no address and no secret is here.
CREATE TABLE notification (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Names what is told to whom: nothing is noted twice.
    key              text NOT NULL UNIQUE,
    workspace_id     uuid NOT NULL,
    pipeline_id      uuid NOT NULL,
    pipeline_version bigint NOT NULL,
    run_id           uuid,
    event            text NOT NULL CHECK (event IN ('failure', 'success', 'passed_sla', 'test')),
    -- Where the configuration is: of the pipeline's version, or in notification_config.
    source           text NOT NULL CHECK (source IN ('project', 'pipeline', 'workspace')),
    channel          text NOT NULL,
    -- What the message says, noted when it happened.
    facts            jsonb NOT NULL DEFAULT '{}',
    status           text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed')),
    attempts         smallint NOT NULL DEFAULT 0,
    -- The next try, and while one is under way the time when its sender is believed to be dead.
    not_before       timestamptz NOT NULL DEFAULT now(),
    error            text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    ended_at         timestamptz,
    CONSTRAINT notification_ended_has_time CHECK ((status <> 'pending') = (ended_at IS NOT NULL))
);
CREATE INDEX notification_due ON notification (not_before) WHERE status = 'pending';
CREATE INDEX notification_by_workspace ON notification (workspace_id, id);
