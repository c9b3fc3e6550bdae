-- expand
-- The end of a run touches no index: its row, and that of its block, find room beside their first versions, in the same page, and
-- no index names a column that changes between a run's beginning and its end (V26). Then an end costs a third of what it cost.
-- What has ended is longer: it has a time, and an output.

ALTER TABLE run SET (fillfactor = 45);
ALTER TABLE block_run SET (fillfactor = 40);

-- Runs that have not ended: what an owner loads when it takes a shard. Kept by what happens to `run`, whoever writes it.
CREATE TABLE unfinished_run (
    shard  smallint NOT NULL,
    run_id uuid NOT NULL,
    PRIMARY KEY (shard, run_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION run_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unfinished_run (shard, run_id) SELECT shard, id FROM begun WHERE completed_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER run_begins AFTER INSERT ON run
    REFERENCING NEW TABLE AS begun FOR EACH STATEMENT EXECUTE FUNCTION run_begins();

CREATE FUNCTION run_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Each by its key, whatever was planned while the list was short.
    DELETE FROM unfinished_run WHERE ctid = ANY (ARRAY(
        SELECT u.ctid FROM changed c
         CROSS JOIN LATERAL (SELECT ctid FROM unfinished_run WHERE shard = c.shard AND run_id = c.id OFFSET 0) AS u
         WHERE c.completed_at IS NOT NULL));
    RETURN NULL;
END $$;
CREATE TRIGGER run_ends AFTER UPDATE ON run
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION run_ends();

-- The queue of ends: one row for 500 that one commit made, whose values are listed in the same order. It takes the place of `run_end`, into
-- which the version before writes a row for each, and whose ids, with names of messages made of them, stay below these.
CREATE TABLE run_end_batch (
    id             bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000000000) PRIMARY KEY,
    run_ids        uuid[] NOT NULL,
    statuses       text[] NOT NULL,
    started_ats    timestamptz[] NOT NULL,
    completed_ats  timestamptz[] NOT NULL,
    former_end_ats timestamptz[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- It lives for a second: pressing it is no use.
ALTER TABLE run_end_batch
    ALTER COLUMN run_ids SET STORAGE EXTERNAL,
    ALTER COLUMN statuses SET STORAGE EXTERNAL,
    ALTER COLUMN started_ats SET STORAGE EXTERNAL,
    ALTER COLUMN completed_ats SET STORAGE EXTERNAL,
    ALTER COLUMN former_end_ats SET STORAGE EXTERNAL;

-- === logs ===
-- Lines of runs that their project keeps for less long than days are kept go in the order in which the runs were created, and no
-- longer by their ends (`pipeline_log_mark`, which the version before raises).

-- Runtime state: up to which run of a pipeline.
CREATE TABLE pipeline_log_passed (
    pipeline_id uuid PRIMARY KEY,
    created_at  timestamptz NOT NULL,
    run_id      uuid NOT NULL
);

-- Runtime state: runs that were passed before they had ended for so long, and those that have run again, whose new lines go too.
CREATE TABLE log_straggler (
    pipeline_id uuid NOT NULL,
    run_id      uuid NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pipeline_id, run_id)
);

CREATE FUNCTION run_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unfinished_run (shard, run_id) VALUES (NEW.shard, NEW.id) ON CONFLICT DO NOTHING;
    -- Whoever has just deleted lines of the life before leaves what was noted since.
    INSERT INTO log_straggler (pipeline_id, run_id) VALUES (NEW.pipeline_id, NEW.id)
    ON CONFLICT (pipeline_id, run_id) DO UPDATE SET noted_at = excluded.noted_at;
    RETURN NULL;
END $$;
CREATE TRIGGER run_goes_on AFTER UPDATE ON run
    FOR EACH ROW WHEN (OLD.completed_at IS NOT NULL AND NEW.completed_at IS NULL) EXECUTE FUNCTION run_goes_on();

-- From here on nobody writes runs until this is committed.
INSERT INTO unfinished_run (shard, run_id) SELECT shard, id FROM run WHERE status IN ('initial', 'running');
