-- How the last life of workspace $1 stands.
SELECT number, state, pool FROM runtime WHERE workspace_id = $1::uuid
