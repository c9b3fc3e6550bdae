-- Makes those who add something to a pipeline wait for each other until the transaction ends. Runs of it are not held up.
-- $1 pipeline
SELECT FROM pipeline WHERE id = $1 FOR NO KEY UPDATE
