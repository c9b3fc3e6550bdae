-- Notes what the database lets happen and then forgets: each owner of a shard, each version of a trigger, and, where asked,
-- each write of a unit. In a schema of its own, by triggers of the database, so that no service knows of it.
CREATE SCHEMA history;
CREATE SEQUENCE history.seq;

-- Microseconds since 1970.
CREATE FUNCTION history.us(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (extract(epoch FROM at) * 1000000)::bigint $$;

-- When a row's writer committed, where the server keeps that.
CREATE FUNCTION history.committed(writer xid) RETURNS timestamptz LANGUAGE plpgsql STABLE AS
$$ BEGIN
    RETURN CASE current_setting('track_commit_timestamp') WHEN 'on' THEN pg_xact_commit_timestamp(writer) END;
END $$;

CREATE TABLE history.taking (
    seq bigint NOT NULL DEFAULT nextval('history.seq'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    shard smallint NOT NULL, epoch bigint NOT NULL, owner uuid
);
CREATE TABLE history.trigger_version (
    seq bigint NOT NULL DEFAULT nextval('history.seq'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    id uuid NOT NULL, pipeline_id uuid NOT NULL, kind text NOT NULL, version bigint NOT NULL, active boolean NOT NULL,
    spec jsonb NOT NULL, enabled_at timestamptz NOT NULL, archived_at timestamptz
);
CREATE TABLE history.unit_write (
    seq bigint NOT NULL DEFAULT nextval('history.seq'), at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id uuid NOT NULL, block text NOT NULL, child integer NOT NULL, status text NOT NULL, lease bigint NOT NULL,
    executor_id uuid
);

-- While the row is locked, so that the numbers of one row's changes rise as the changes do.
CREATE FUNCTION history.note_taking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history.taking (shard, epoch, owner) VALUES (NEW.id, NEW.epoch, NEW.owner);
    RETURN NULL;
END $$;
CREATE FUNCTION history.note_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history.trigger_version (id, pipeline_id, kind, version, active, spec, enabled_at, archived_at)
    VALUES (NEW.id, NEW.pipeline_id, NEW.kind, NEW.version, NEW.active, NEW.spec, NEW.enabled_at, NEW.archived_at);
    RETURN NULL;
END $$;
CREATE FUNCTION history.note_unit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history.unit_write (run_id, block, child, status, lease, executor_id)
    VALUES (NEW.run_id, NEW.block, NEW.child, NEW.status, NEW.lease, NEW.executor_id);
    RETURN NULL;
END $$;

CREATE TRIGGER history_taking AFTER INSERT OR UPDATE ON shard FOR EACH ROW EXECUTE FUNCTION history.note_taking();
CREATE TRIGGER history_trigger AFTER INSERT OR UPDATE ON trigger FOR EACH ROW EXECUTE FUNCTION history.note_trigger();

-- What was there before.
INSERT INTO history.taking (shard, epoch, owner) SELECT id, epoch, owner FROM shard ORDER BY id;
INSERT INTO history.trigger_version (at, id, pipeline_id, kind, version, active, spec, enabled_at, archived_at)
SELECT updated_at, id, pipeline_id, kind, version, active, spec, enabled_at, archived_at FROM trigger ORDER BY id;
