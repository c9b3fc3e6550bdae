-- expand
-- Volumes with a name and a size, which count for their project's quota of storage.

-- Written by web-servers. Who creates or grows one holds the project's row of project_usage, as the ledger does that gives
-- disk to runtimes: so their sum stays below the quota, whoever is first.
CREATE TABLE volume (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES project (id),
    name       text NOT NULL CHECK (name ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'),
    -- Whose executors make it, and whose runtimes may mount it.
    pool       text NOT NULL,
    -- Only ever grows.
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    created_by uuid REFERENCES user_account (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- From then on nobody mounts it any more. It counts until its executor says that it is gone.
    deleted_at timestamptz
);
CREATE UNIQUE INDEX volume_name ON volume (project_id, name) WHERE deleted_at IS NULL;
CREATE INDEX volume_of_pool ON volume (pool);
CREATE INDEX volume_of_project ON volume (project_id);

-- Runtime state: what an executor has said about a volume. No row while none has.
CREATE TABLE volume_state (
    volume_id  uuid PRIMARY KEY REFERENCES volume (id) ON DELETE CASCADE,
    state      text NOT NULL CHECK (state IN ('ready', 'failed', 'deleting', 'gone')),
    -- What its backend gave; 0 where it did not say, or keeps no size.
    size_bytes bigint NOT NULL DEFAULT 0 CHECK (size_bytes >= 0),
    message    text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now()
);
