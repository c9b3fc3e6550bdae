-- Lines as they came; the caller commits without waiting for the disk.
INSERT INTO log_line (run_id, at, block, child, lease, level, stream, message)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::integer[], $5::bigint[], $6::smallint[], $7::text[], $8::text[])
