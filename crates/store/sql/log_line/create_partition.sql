-- The partitions of yesterday to the day after tomorrow (UTC), unless they are there. Lines of such a day that lie in
-- the default partition move into it. Gives up, to be tried again, when a lock is not had in two seconds.
DO $$
DECLARE
    day date;
    part text;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, 2) AS n LOOP
        part := 'log_line_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE log_line INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
        EXECUTE format('WITH moved AS (DELETE FROM log_line_default WHERE at >= %L AND at < %L RETURNING *)
                        INSERT INTO %I SELECT * FROM moved', day || ' 00:00+00', day + 1 || ' 00:00+00', part);
        EXECUTE format('ALTER TABLE log_line ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       part, day || ' 00:00+00', day + 1 || ' 00:00+00');
    END LOOP;
END
$$
