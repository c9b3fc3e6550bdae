-- One change of a project's members, or one new workspace in it, at a time. No row when it is archived.
-- $1 id
SELECT id FROM project WHERE id = $1 AND archived_at IS NULL FOR UPDATE
