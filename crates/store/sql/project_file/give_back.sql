-- Stops to count a file that is not in the store. The caller holds the project's total, by project_file/charge.
-- $1 project, $2 digest, $3 size
WITH gone AS (
    DELETE FROM project_file WHERE project_id = $1 AND sha256 = $2::text AND size_bytes = $3::bigint RETURNING size_bytes
)
UPDATE project_file_total t SET size_bytes = t.size_bytes - gone.size_bytes FROM gone WHERE t.project_id = $1
