-- The partition of one day, unless it is there. Lines of a day without a partition lie in the default one.
DO $$
DECLARE
    day date := current_date + 1;
    part text := 'log_line_' || to_char(current_date + 1, 'YYYYMMDD');
BEGIN
    IF to_regclass(part) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF log_line FOR VALUES FROM (%L) TO (%L)', part, day, day + 1);
    END IF;
END
$$
