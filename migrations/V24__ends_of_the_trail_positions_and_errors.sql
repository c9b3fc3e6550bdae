-- expand
-- The trail of who did what has an end, which web-servers see to (`audit_retention`): an entry can be deleted when it is 30
-- days old. None is ever changed.

DROP TRIGGER audit_entry_is_append_only ON audit_entry;
CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_entry_is_kept BEFORE DELETE ON audit_entry
    FOR EACH ROW WHEN (OLD.at > now() - interval '30 days') EXECUTE FUNCTION refuse_change();

-- While a runtime waits: its place among those who wait in its queue, from 1, as the planner said last. NULL: it said none.
ALTER TABLE runtime ADD COLUMN position integer;

-- The workspaces, pipelines and triggers of a chunk's lines at ERROR and above; NULL in chunks of the version before.
ALTER TABLE log_chunk ADD COLUMN errors_of uuid[];
