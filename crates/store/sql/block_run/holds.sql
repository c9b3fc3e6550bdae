-- Whether this attempt is the one that runs.
-- $1 run, $2 block, $3 child, $4 lease
SELECT EXISTS (SELECT 1 FROM block_run b
                WHERE b.run_id = $1::uuid AND b.block = $2::text AND b.child = $3::integer AND b.lease = $4::bigint
                  AND b.status = 'running') AS holds
