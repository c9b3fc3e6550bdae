-- The pointer to the outputs of one unit of a run: the lease of its accepted attempt and what that left.
-- $1 run, $2 block, $3 child
SELECT b.lease, b.status, b.output, r.outputs_expired_at
  FROM block_run b
  JOIN run r ON r.id = b.run_id
 WHERE b.run_id = $1::uuid AND b.block = $2::text AND b.child = $3::integer
