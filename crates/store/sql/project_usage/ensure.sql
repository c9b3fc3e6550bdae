-- Makes rows for projects $1 that hold nothing yet.
INSERT INTO project_usage (project_id) SELECT unnest($1::uuid[]) ORDER BY 1 ON CONFLICT (project_id) DO NOTHING
