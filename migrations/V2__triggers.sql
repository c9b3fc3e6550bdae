-- expand
-- Triggers as definitions that are edited, and the tokens of API triggers. Written by web-servers only.

ALTER TABLE trigger
    -- When it was created, last started, or its schedule edited: earlier times are none of its own.
    ADD COLUMN enabled_at timestamptz NOT NULL DEFAULT now(),
    -- Of the latest pause, as long as the schedule is the one that was paused.
    ADD COLUMN paused_at  timestamptz,
    -- What the project's file said when it was deployed last; NULL for triggers of other sources. Edits by the API hold
    -- until the file says something else.
    ADD COLUMN desired    jsonb;

-- The file's token was kept in the document by the version before.
UPDATE trigger SET spec = spec - 'token' WHERE spec ? 'token';

-- What the owner of a shard loads: a pipeline's shard is the last byte of its id.
CREATE INDEX trigger_by_shard ON trigger ((get_byte(uuid_send(pipeline_id), 15)), id)
    WHERE active AND archived_at IS NULL AND kind <> 'manual';
-- What changed since somebody looked.
CREATE INDEX trigger_by_change ON trigger (updated_at);

-- Only hashes are kept: who reads this table can call nothing. A token has 256 bits, so no slow hash is needed.
CREATE TABLE trigger_token (
    -- Its public part, by which it is looked up.
    id           text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 64),
    trigger_id   uuid NOT NULL REFERENCES trigger (id),
    hash         bytea NOT NULL,
    source       text NOT NULL CHECK (source IN ('project', 'api')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- After a rotation the former one holds a while; NULL means until the next rotation.
    expires_at   timestamptz,
    CONSTRAINT trigger_token_hash_is_sha256 CHECK (length(hash) = 32)
);
CREATE INDEX trigger_token_by_trigger ON trigger_token (trigger_id);
