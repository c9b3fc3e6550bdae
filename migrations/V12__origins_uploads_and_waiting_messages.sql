-- expand
-- How sign-ins and tokens came to be, what projects have put into the store of files, messages by where they go, and
-- lines that a project keeps for less long than others.

-- === uploads ===

-- A file that a project has put into the store, or uses there: by its digest, so once. Written by web-servers.
CREATE TABLE project_file (
    project_id uuid NOT NULL REFERENCES project (id),
    sha256     text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- With the size as it was announced: a wrong one does not make the right one free.
    PRIMARY KEY (project_id, sha256, size_bytes)
);

-- Their sum, so that one more file costs no look at all others.
CREATE TABLE project_file_total (
    project_id uuid PRIMARY KEY REFERENCES project (id),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0)
);

-- === notifications ===

-- Runtime state: lanes whose receiver did not take a message lately. No row is the usual.
CREATE TABLE notification_lane (
    workspace_id uuid NOT NULL,
    pipeline_id  uuid NOT NULL,
    source       text NOT NULL,
    channel      text NOT NULL,
    -- One after the other.
    failures     integer NOT NULL CHECK (failures > 0),
    not_before   timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, pipeline_id, source, channel)
);

-- === logs ===

-- Runtime state: up to the end of which run the lines of a pipeline are gone, since its project keeps them for less long
-- than days are kept.
CREATE TABLE pipeline_log_mark (
    pipeline_id  uuid PRIMARY KEY,
    completed_at timestamptz NOT NULL,
    run_id       uuid NOT NULL
);

-- === people ===

-- Last in this file: every sign-in waits from here to its end.

-- What a sign-in or a token came from: `person`, who asked for a token of that name; a sign-in by `password`; one
-- `elsewhere`, at the provider; or the `operator`'s token. NULL for what is older than these columns.
ALTER TABLE browser_session
    ADD COLUMN origin text CHECK (origin IN ('password', 'elsewhere', 'operator'));
ALTER TABLE access_token
    ADD COLUMN origin text CHECK (origin IN ('person', 'password', 'elsewhere', 'operator'));
