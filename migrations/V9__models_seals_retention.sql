-- expand
-- What contents of models, sealed configurations, backfills by cron, retention of runs and runs that time out need.

-- === models ===

-- The digests of the parts that hold the content, in order. Each has the same size but the last one, and lies below the
-- version's id, which was the upload's.
ALTER TABLE model_version ADD COLUMN parts text[] NOT NULL DEFAULT '{}';
CREATE INDEX model_upload_by_content ON model_upload (workspace_id, name, sha256);

-- === notifications ===

-- The configuration with its secrets, sealed as secrets are; then `config` shows none. NULL for what was set before.
ALTER TABLE notification_config
    ADD COLUMN key_id      text,
    ADD COLUMN wrapped_key bytea,
    ADD COLUMN sealed      bytea,
    ADD CONSTRAINT notification_config_seal_is_whole
        CHECK (num_nonnulls(key_id, wrapped_key, sealed) IN (0, 3));

-- === runs ===

-- A run that takes longer than timeout_s ends as cancelled, not as failed.
ALTER TABLE run ADD COLUMN timeout_cancels boolean NOT NULL DEFAULT false;

-- What retention of runs looks for: ended runs whose outputs are gone.
CREATE INDEX run_forgettable ON run (pipeline_id, completed_at) WHERE outputs_expired_at IS NOT NULL;

-- === backfills ===

-- Intervals that a cron expression names; `unit` says so. Such a cursor is an instant: the interval that was started last.
ALTER TABLE backfill
    ADD COLUMN cron    text CHECK (length(cron) BETWEEN 1 AND 255),
    ADD COLUMN last_at timestamptz,
    DROP CONSTRAINT backfill_unit_check,
    ADD CONSTRAINT backfill_unit_check
        CHECK (unit IN ('second', 'minute', 'hour', 'day', 'week', 'month', 'year', 'cron')),
    ADD CONSTRAINT backfill_cron_is_there CHECK ((unit = 'cron') = (cron IS NOT NULL));
