-- expand
-- Retention of outputs: a run says that its outputs are gone before they are, and what is to be removed waits in a table
-- of its own. Both are written by schedulers.

ALTER TABLE run ADD COLUMN outputs_expired_at timestamptz;

-- What retention looks for: ended runs that still have their outputs.
CREATE INDEX run_with_outputs ON run (pipeline_id, completed_at)
    WHERE completed_at IS NOT NULL AND outputs_expired_at IS NULL;

-- Runs whose outputs an executor has to remove. The row goes when it says that they are gone.
CREATE TABLE output_removal (
    run_id        uuid PRIMARY KEY,
    -- Whose metadata says where the outputs are.
    bundle_digest text NOT NULL,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    -- Nobody takes it before.
    not_before    timestamptz NOT NULL,
    tries         integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    -- Why the latest try failed.
    error         text
) WITH (fillfactor = 70);
CREATE INDEX output_removal_due ON output_removal (not_before);
