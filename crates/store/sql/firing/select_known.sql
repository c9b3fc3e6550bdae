-- What logical keys of triggers became: their run, or why they were skipped; in request order.
-- $1 triggers, $2 logical keys
SELECT f.run_id, f.reason, f.trigger_id IS NOT NULL AS is_known
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k (trigger_id, logical_key, position)
LEFT JOIN LATERAL (SELECT * FROM firing WHERE trigger_id = k.trigger_id AND logical_key = k.logical_key OFFSET 0) AS f ON true
ORDER BY k.position
