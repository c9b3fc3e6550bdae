-- concurrent
-- The trail of one person or token, by what it names them.
DROP INDEX CONCURRENTLY IF EXISTS audit_entry_by_actor;
CREATE INDEX CONCURRENTLY audit_entry_by_actor ON audit_entry (actor, id);

-- What sensors ask each second: the latest run of a pipeline by its date.
DROP INDEX CONCURRENTLY IF EXISTS run_by_execution_date;
CREATE INDEX CONCURRENTLY run_by_execution_date ON run (pipeline_id, execution_date, id);
