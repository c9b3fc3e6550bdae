-- The volume of project $1 with name $2, locked until the transaction ends.
SELECT id, size_bytes FROM volume WHERE project_id = $1 AND name = $2 AND deleted_at IS NULL FOR NO KEY UPDATE
