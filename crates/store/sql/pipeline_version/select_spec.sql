-- The definition that a run is pinned to.
SELECT spec, bundle_digest FROM pipeline_version WHERE pipeline_id = $1::uuid AND version = $2::bigint
