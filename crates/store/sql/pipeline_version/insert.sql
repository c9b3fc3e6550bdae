-- $1 pipeline, $2 version, $3 bundle, $4 spec
INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, $2, $3, $4)
