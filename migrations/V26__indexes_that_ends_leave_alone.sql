-- concurrent
-- No index of `run` names what changes between its beginning and its end. What went by ends goes by beginnings: no run ends before it
-- was created.
DROP INDEX CONCURRENTLY IF EXISTS run_keeps_outputs;
CREATE INDEX CONCURRENTLY run_keeps_outputs ON run (pipeline_id, created_at) WHERE outputs_expired_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS run_without_outputs;
CREATE INDEX CONCURRENTLY run_without_outputs ON run (pipeline_id, created_at) WHERE outputs_expired_at IS NOT NULL;

-- Without these a scheduler of the version before still does all it did; what it reads when it takes a shard is every run.
DROP INDEX CONCURRENTLY IF EXISTS run_unfinished;
DROP INDEX CONCURRENTLY IF EXISTS run_with_outputs;
DROP INDEX CONCURRENTLY IF EXISTS run_forgettable;

-- Firings of one instant are few beside those of a trigger: a page of them sorts them itself.
DROP INDEX CONCURRENTLY IF EXISTS firing_by_instant;
CREATE INDEX CONCURRENTLY firing_by_instant ON firing (trigger_id, created_at);
DROP INDEX CONCURRENTLY IF EXISTS firing_by_time;
