-- expand
-- What a run was before it ran again, and which run took its place: so that no count counts anything twice.

-- Runtime state: when the run's life before this one ended. NULL in its first life, and in those that an earlier version began.
ALTER TABLE run ADD COLUMN former_end_at timestamptz;

-- Runtime state: of a run of a backfill, the one that is there in its place, since it was made again as a whole. NULL for none.
ALTER TABLE run ADD COLUMN repeated_by uuid;

-- The same as in run, as it was when this end was written.
ALTER TABLE run_end ADD COLUMN former_end_at timestamptz;
