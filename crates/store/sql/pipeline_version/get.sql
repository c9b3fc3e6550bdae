-- $1 pipeline, $2 version
SELECT spec FROM pipeline_version WHERE pipeline_id = $1 AND version = $2
