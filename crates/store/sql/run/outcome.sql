-- What came of a commit whose answer was lost: how its transaction ($1, or null where that is not known) ended, which of its
-- shards are still in the epoch of their writer ($2, $3), and which of its new runs ($4) are there.
SELECT pg_xact_status($1::text::xid8) AS status,
       (SELECT coalesce(array_agg(s.id), '{}') FROM shard s
          JOIN unnest($2::smallint[], $3::bigint[]) AS o (id, epoch) ON s.id = o.id AND s.epoch = o.epoch) AS shards,
       (SELECT coalesce(array_agg(id), '{}') FROM run WHERE id = ANY ($4::uuid[])) AS created
