-- expand
-- Quotas over several projects: of a group, and of a person.

-- What all projects of a group may hold together; NULL is no limit. A JSON object: model to milli-GPU.
ALTER TABLE group_policy
    ADD COLUMN gpu_milli bigint,
    ADD COLUMN model_milli jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN cpu_milli bigint,
    ADD COLUMN memory_bytes bigint,
    ADD COLUMN storage_bytes bigint,
    ADD COLUMN runtimes bigint,
    ADD COLUMN version bigint NOT NULL DEFAULT 1;
ALTER TABLE group_policy ADD CONSTRAINT group_policy_limits CHECK (
    coalesce(gpu_milli, 0) >= 0 AND coalesce(cpu_milli, 0) >= 0 AND coalesce(memory_bytes, 0) >= 0
    AND coalesce(storage_bytes, 0) >= 0 AND coalesce(runtimes, 0) >= 0) NOT VALID;

-- What one person may hold over all projects; NULL is no limit.
CREATE TABLE user_policy (
    -- No reference: the nil id is everybody who has no row. Who has one is held against that row alone.
    user_id       uuid PRIMARY KEY,
    gpu_milli     bigint,
    model_milli   jsonb NOT NULL DEFAULT '{}',
    cpu_milli     bigint,
    memory_bytes  bigint,
    storage_bytes bigint,
    runtimes      bigint,
    version       bigint NOT NULL DEFAULT 1,
    CONSTRAINT user_policy_limits CHECK (
        coalesce(gpu_milli, 0) >= 0 AND coalesce(cpu_milli, 0) >= 0 AND coalesce(memory_bytes, 0) >= 0
        AND coalesce(storage_bytes, 0) >= 0 AND coalesce(runtimes, 0) >= 0
    )
);

-- Runtime state: for whose quota a placement counts. It goes with the placement, whichever version gives that back; what a
-- version places that writes none gets its row from the next one that takes over the pool.
CREATE TABLE placement_user (
    holder  uuid PRIMARY KEY REFERENCES placement (holder) ON DELETE CASCADE,
    user_id uuid NOT NULL
);
CREATE INDEX placement_user_by_user ON placement_user (user_id);
