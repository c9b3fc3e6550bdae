-- Which migrations were applied. Another library's table, from a time when it applied them; schemas out there have it.
-- Made here and not by a migration, since it has to be there before the first.
CREATE TABLE IF NOT EXISTS refinery_schema_history (
    version    int4 PRIMARY KEY,
    name       varchar(255),
    applied_on varchar(255),
    checksum   varchar(255)
)
