-- The next older chunks, each with whether it may hold a line that fits. A chunk's filter is fetched only when nothing
-- cheaper rules it out, and is unpacked once.
-- $1 before this id, $2 since, $3 until, $4 workspace, $5 pipeline or NULL, $6 trigger or NULL, $7 least level,
-- $8 hashes of sequences that must be there, $9 limit, $10 block or '', $11 block type or '', $12 of whose errors something must
-- be there: the workspace, the pipeline or the trigger; or NULL
SELECT c.after_id, c.last_id, c.min_at, c.max_at,
       CASE WHEN c.max_at < $2 OR c.min_at >= $3 OR c.max_level < $7
              OR NOT c.workspaces @> ARRAY[$4::uuid]
              OR ($5::uuid IS NOT NULL AND NOT c.pipelines @> ARRAY[$5::uuid])
              OR ($6::uuid IS NOT NULL AND NOT c.triggers @> ARRAY[$6::uuid])
              OR ($12::uuid IS NOT NULL AND NOT coalesce(c.errors_of @> ARRAY[$12::uuid], true))
              OR ($10 <> '' AND NOT coalesce($10 = ANY (c.blocks), true))
              OR ($11 <> '' AND NOT coalesce($11 = ANY (c.block_types), true))
            THEN false
            WHEN cardinality($8::bigint[]) = 0 THEN true
            ELSE (SELECT bool_and(get_bit(f.grams, h & (8 * length(f.grams) - 1)) = 1)
                    FROM (SELECT c.grams || ''::bytea AS grams OFFSET 0) f, unnest($8::bigint[]) h)
       END AS may
  FROM (SELECT * FROM log_chunk WHERE after_id < $1 ORDER BY after_id DESC LIMIT $9) c
 ORDER BY c.after_id DESC
