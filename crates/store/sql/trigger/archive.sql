-- Archives a trigger, for good unless its name is used again. Its firings stay. A trigger of the project stays archived
-- until the project's file says something else about it. Its tokens are dropped after it, in the same transaction.
-- $1 id
UPDATE trigger
   SET archived_at = now(), updated_at = now(), active = false, version = version + 1
 WHERE id = $1 AND archived_at IS NULL AND source <> 'built-in'
RETURNING version
