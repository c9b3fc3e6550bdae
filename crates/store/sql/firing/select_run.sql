-- The runs that known logical keys created, in request order.
SELECT f.run_id FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS k (trigger_id, logical_key, position)
LEFT JOIN firing f ON f.trigger_id = k.trigger_id AND f.logical_key = k.logical_key
ORDER BY k.position
