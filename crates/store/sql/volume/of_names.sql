-- Volumes of project $1 in pool $2 by their names $3.
SELECT id, name FROM volume WHERE project_id = $1 AND pool = $2 AND name = ANY ($3::text[]) AND deleted_at IS NULL
