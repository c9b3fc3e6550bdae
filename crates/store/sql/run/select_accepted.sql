-- Of these attempts, in order, which are the accepted one of their unit. An accepted result may be sent again when its
-- acknowledgement was lost.
SELECT EXISTS (
    SELECT FROM block_run b
    WHERE b.run_id = a.run_id AND b.block = a.block AND b.child = a.child AND b.lease = a.lease AND b.status = 'completed'
) AS accepted
FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bigint[]) WITH ORDINALITY AS a (run_id, block, child, lease, position)
ORDER BY a.position
