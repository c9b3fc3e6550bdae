-- Counts what holder $1 has for queue $2 from now on; what it held until now stays with the queue before.
WITH counted AS (
    INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, workspace_id, person_id, model, gpu_milli)
    SELECT h.holder, h.held_at, now(), h.project_id, h.queue_id, h.workspace_id, h.person_id, h.model, h.gpu_milli
    FROM gpu_held h
    WHERE h.holder = $1::uuid AND h.queue_id <> $2::uuid AND h.held_at < now()
    ON CONFLICT (holder, held_at) DO NOTHING
)
UPDATE placement SET queue_id = $2::uuid, counted_from = now() WHERE holder = $1::uuid AND queue_id <> $2::uuid
