-- $1 upload
DELETE FROM model_upload WHERE id = $1
