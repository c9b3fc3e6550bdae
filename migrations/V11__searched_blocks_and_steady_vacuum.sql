-- expand
-- Searches by block skip chunks, and tables that change all the time are vacuumed by what changed.

-- === logs ===

-- What wrote the lines of a chunk; NULL in chunks that are older than these columns, which may hold anything's, and
-- where too many blocks wrote to name them all.
ALTER TABLE log_chunk
    ADD COLUMN blocks      text[],
    ADD COLUMN block_types text[];

-- === vacuum ===

-- By default a fifth of a table may be dead before it is vacuumed, so that dead rows grow with history. Here it is a small part: what
-- a run changes between its start and its end is dead soon after, however many runs lie there already.
ALTER TABLE run SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
ALTER TABLE block_run SET (autovacuum_vacuum_scale_factor = 0.002, autovacuum_vacuum_threshold = 5000);
