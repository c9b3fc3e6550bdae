-- Keys of applications that another of the cluster's keys seals; $1 is how those begin that the first key seals, $2 a limit.
SELECT workspace_id, number, access_key FROM runtime
 WHERE access_key IS NOT NULL AND substring(access_key FROM 1 FOR length($1::bytea)) <> $1
 ORDER BY workspace_id LIMIT $2
