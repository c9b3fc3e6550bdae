-- expand
-- Runtimes that start together or not at all, disk beside volumes, when a place is expected, and what becomes of runtimes
-- when their project may hold less.

-- The gang of a life: id, size, one_zone, and the number of the life that it is about. NULL: it starts by itself.
ALTER TABLE runtime ADD COLUMN gang jsonb;
-- While it waits: when it gets a place, as far as that is known.
ALTER TABLE runtime ADD COLUMN expected_at timestamptz;

-- Disk that a holder may fill beside its volumes, bytes.
ALTER TABLE placement ADD COLUMN storage_bytes bigint NOT NULL DEFAULT 0;

-- Runtimes that hold more than a quota which was made smaller are stopped after so long; NULL: they go on.
ALTER TABLE project_policy ADD COLUMN over_quota_grace_s integer;
-- Since when the quota is as it is; the grace begins then.
ALTER TABLE project_policy ADD COLUMN quota_set_at timestamptz;
ALTER TABLE project_policy ADD CONSTRAINT project_policy_grace CHECK (over_quota_grace_s >= 60) NOT VALID;
