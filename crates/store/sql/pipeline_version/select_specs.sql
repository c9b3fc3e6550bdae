-- The definitions that runs are pinned to. $1 pipelines, $2 versions
SELECT v.pipeline_id, v.version, v.spec, v.bundle_digest
FROM unnest($1::uuid[], $2::bigint[]) AS k (pipeline_id, version)
JOIN pipeline_version v ON v.pipeline_id = k.pipeline_id AND v.version = k.version
