-- expand
-- Who held how much of GPUs, and for how long: an account that outlives lives, workspaces and projects.
-- Schedulers of the version before write none of it. What they free while both serve is missing from the account, and what they
-- move to another queue counts for that queue as a whole. What they have placed and a newer one frees is there.

-- Runtime state: of a placement that is a block's, whose block; NULL for runtimes, whose rows say it.
ALTER TABLE placement ADD COLUMN workspace_id uuid;
-- Since when it counts for its queue; NULL: since it was placed.
ALTER TABLE placement ADD COLUMN counted_from timestamptz;

-- What is held at this moment, as gpu_usage has it when it is over. A nomination holds nothing yet.
CREATE VIEW gpu_held AS
SELECT p.holder, coalesce(p.counted_from, p.created_at) AS held_at, p.project_id, p.queue_id,
       coalesce(p.workspace_id, r.workspace_id) AS workspace_id, r.requested_by AS person_id, p.model,
       p.effective_milli AS gpu_milli
  FROM placement p LEFT JOIN runtime r ON r.holder = p.holder
 WHERE p.state <> 'nominated' AND p.effective_milli > 0;

-- Runtime state: one row for each life, or block, that held GPUs, written by the statement that frees them; one for each queue
-- where it moved. It names what it is about by ids and refers to nothing: the account stays when those are gone.
CREATE TABLE gpu_usage (
    holder       uuid NOT NULL,
    held_at      timestamptz NOT NULL,
    -- When nothing of it was left, and others could have the devices.
    freed_at     timestamptz NOT NULL,
    project_id   uuid NOT NULL,
    queue_id     uuid NOT NULL,
    -- NULL: of a block that a scheduler of an earlier version placed.
    workspace_id uuid,
    -- Who started the runtime; NULL: of a block.
    person_id    uuid,
    model        text NOT NULL,
    -- Effective GPU: devices times share, as quotas count it.
    gpu_milli    bigint NOT NULL,
    -- Nothing counts twice, whoever writes.
    PRIMARY KEY (holder, held_at),
    CONSTRAINT gpu_usage_is_something CHECK (gpu_milli > 0 AND held_at < freed_at)
);
CREATE INDEX gpu_usage_by_time ON gpu_usage USING gist (tstzrange(held_at, freed_at));
