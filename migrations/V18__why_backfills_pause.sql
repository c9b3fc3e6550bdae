-- expand
-- A backfill that pauses itself says why: its workspace is archived, its pipeline gone, its definition unreadable.

-- Written by its shard's owner with the status; NULL when a person paused it, or nobody did.
ALTER TABLE backfill ADD COLUMN pause_reason text;
