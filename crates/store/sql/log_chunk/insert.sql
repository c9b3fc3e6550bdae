-- One chunk, unless another writer went on from the same id before.
-- $1 after id, $2 last id, $3 lines, $4 first time, $5 last time, $6 highest level, $7 runs, $8 grams,
-- $9 blocks, $10 block types, $11 runs with errors
INSERT INTO log_chunk (after_id, last_id, lines, min_at, max_at, max_level, workspaces, pipelines, triggers, grams, blocks, block_types,
    errors_of)
SELECT $1, $2, $3, $4, $5, $6,
       coalesce(array_agg(DISTINCT workspace_id) FILTER (WHERE workspace_id IS NOT NULL), '{}'),
       coalesce(array_agg(DISTINCT pipeline_id) FILTER (WHERE pipeline_id IS NOT NULL), '{}'),
       coalesce(array_agg(DISTINCT trigger_id) FILTER (WHERE trigger_id IS NOT NULL), '{}'),
       $8, $9, $10,
       (SELECT coalesce(array_agg(DISTINCT thing), '{}')
          FROM run AS e, unnest(ARRAY[e.workspace_id, e.pipeline_id, e.trigger_id]) AS thing
         WHERE e.id = ANY ($11::uuid[]) AND thing IS NOT NULL)
  FROM unnest($7::uuid[]) AS u (run_id)
  LEFT JOIN run ON run.id = u.run_id
ON CONFLICT (after_id) DO NOTHING
