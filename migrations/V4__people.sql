-- expand
-- People and what they may do, secrets, models, and the trail of who did what. Written by web-servers only.

-- === who ===

CREATE TABLE user_account (
    id             uuid PRIMARY KEY,
    -- What one signs in and is invited by; stored in lower case.
    email          text NOT NULL UNIQUE,
    name           text NOT NULL DEFAULT '',
    -- A PHC string; NULL for those who sign in elsewhere.
    password_hash  text,
    -- A one-time password opens nothing but its own change.
    password_state text NOT NULL DEFAULT 'none',
    -- Over the whole cluster; NULL is the usual: only what projects and workspaces grant.
    role           text,
    oidc_issuer    text,
    oidc_subject   text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    disabled_at    timestamptz,
    CONSTRAINT user_account_email_is_lower CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    CONSTRAINT user_account_password_state CHECK (password_state IN ('none', 'one-time', 'set')),
    CONSTRAINT user_account_password_is_there CHECK ((password_state = 'none') = (password_hash IS NULL)),
    CONSTRAINT user_account_role CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    CONSTRAINT user_account_oidc_is_whole CHECK ((oidc_issuer IS NULL) = (oidc_subject IS NULL)),
    CONSTRAINT user_account_oidc_unique UNIQUE (oidc_issuer, oidc_subject)
);

CREATE TABLE user_group (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT user_group_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);

CREATE TABLE user_group_member (
    group_id uuid NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    user_id  uuid NOT NULL REFERENCES user_account (id),
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX user_group_member_by_user ON user_group_member (user_id);

-- A browser that is signed in. Only hashes are kept: who reads this table cannot sign in with it.
CREATE TABLE browser_session (
    secret_hash  bytea PRIMARY KEY,
    csrf_hash    bytea NOT NULL,
    user_id      uuid NOT NULL REFERENCES user_account (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    CONSTRAINT browser_session_hashes CHECK (length(secret_hash) = 32 AND length(csrf_hash) = 32)
);
CREATE INDEX browser_session_by_user ON browser_session (user_id);
CREATE INDEX browser_session_by_end ON browser_session (expires_at);

-- A sign-in elsewhere that has begun. The key is the hash of what only the browser that began it holds.
CREATE TABLE oidc_sign_in (
    key_hash   bytea PRIMARY KEY,
    nonce      text NOT NULL,
    verifier   text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT oidc_sign_in_hash CHECK (length(key_hash) = 32)
);
CREATE INDEX oidc_sign_in_by_end ON oidc_sign_in (expires_at);

CREATE TABLE access_token (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES user_account (id),
    name         text NOT NULL,
    -- The part that may be shown and by which the row is found.
    prefix       text NOT NULL UNIQUE,
    secret_hash  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    -- True to some minutes.
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CONSTRAINT access_token_hash CHECK (length(secret_hash) = 32),
    CONSTRAINT access_token_name CHECK (length(name) BETWEEN 1 AND 100)
);
CREATE INDEX access_token_by_user ON access_token (user_id, id);

-- === what they own ===

CREATE TABLE project (
    id             uuid PRIMARY KEY,
    name           text NOT NULL UNIQUE,
    -- Whose personal project it is; or the group that owns it; or neither.
    owner_user_id  uuid REFERENCES user_account (id),
    owner_group_id uuid REFERENCES user_group (id),
    created_at     timestamptz NOT NULL DEFAULT now(),
    archived_at    timestamptz,
    CONSTRAINT project_name_is_a_dns_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT project_has_one_owner CHECK (owner_user_id IS NULL OR owner_group_id IS NULL)
);
CREATE UNIQUE INDEX project_is_personal_once ON project (owner_user_id) WHERE owner_user_id IS NOT NULL;
CREATE INDEX project_by_group ON project (owner_group_id) WHERE owner_group_id IS NOT NULL;

-- Workspaces of the time before projects, and those that a replica of that time still makes.
INSERT INTO project (id, name) VALUES ('00000000-0000-0000-0000-000000000000', 'default');

ALTER TABLE workspace
    ADD COLUMN project_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000' REFERENCES project (id),
    ADD COLUMN archived_at timestamptz;
CREATE INDEX workspace_by_project ON workspace (project_id);

CREATE TABLE project_member (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES project (id),
    user_id    uuid REFERENCES user_account (id),
    group_id   uuid REFERENCES user_group (id) ON DELETE CASCADE,
    role       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT project_member_role CHECK (role IN ('viewer', 'editor', 'admin', 'owner')),
    CONSTRAINT project_member_is_one CHECK ((user_id IS NULL) <> (group_id IS NULL)),
    CONSTRAINT project_member_user_once UNIQUE (project_id, user_id),
    CONSTRAINT project_member_group_once UNIQUE (project_id, group_id)
);
CREATE INDEX project_member_by_user ON project_member (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX project_member_by_group ON project_member (group_id) WHERE group_id IS NOT NULL;

CREATE TABLE workspace_member (
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    user_id      uuid NOT NULL REFERENCES user_account (id),
    role         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id),
    CONSTRAINT workspace_member_role CHECK (role IN ('owner', 'collaborator'))
);
CREATE INDEX workspace_member_by_user ON workspace_member (user_id);

-- For whoever will sign in with this address.
CREATE TABLE workspace_invitation (
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    email        text NOT NULL,
    role         text NOT NULL,
    invited_by   uuid NOT NULL REFERENCES user_account (id),
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, email),
    CONSTRAINT workspace_invitation_role CHECK (role IN ('owner', 'collaborator'))
);
CREATE INDEX workspace_invitation_by_email ON workspace_invitation (email);

-- What a person may do in a project or a workspace, once for each way that leads to it: the highest counts.
-- 1 viewer, 2 editor, 3 admin, 4 owner. What the role over the whole cluster grants is not in here.
CREATE VIEW project_access AS
    SELECT p.id AS project_id, p.owner_user_id AS user_id, 4 AS rank
      FROM project p WHERE p.owner_user_id IS NOT NULL
    UNION ALL
    SELECT p.id, g.user_id, 2 FROM project p JOIN user_group_member g ON g.group_id = p.owner_group_id
    UNION ALL
    SELECT m.project_id, m.user_id, array_position(ARRAY['viewer', 'editor', 'admin', 'owner'], m.role)
      FROM project_member m WHERE m.user_id IS NOT NULL
    UNION ALL
    SELECT m.project_id, g.user_id, array_position(ARRAY['viewer', 'editor', 'admin', 'owner'], m.role)
      FROM project_member m JOIN user_group_member g ON g.group_id = m.group_id;

CREATE VIEW workspace_access AS
    SELECT m.workspace_id, m.user_id, CASE m.role WHEN 'owner' THEN 4 ELSE 2 END AS rank FROM workspace_member m
    UNION ALL
    SELECT w.id, a.user_id, a.rank FROM workspace w JOIN project_access a ON a.project_id = w.project_id;

-- === who did what ===

CREATE TABLE audit_entry (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    -- No reference: the trail outlives everything that it tells of.
    user_id      uuid,
    -- The e-mail address at that time; what was given, where nobody was signed in.
    actor        text NOT NULL,
    -- token:<prefix>, session, operator, none
    via          text NOT NULL,
    method       text NOT NULL,
    project_id   uuid,
    workspace_id uuid,
    -- What was addressed, such as `workspace sales`.
    object       text NOT NULL,
    -- ok, denied, failed
    outcome      text NOT NULL,
    -- The status of what failed.
    reason       text NOT NULL DEFAULT '',
    detail       jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT audit_entry_outcome CHECK (outcome IN ('ok', 'denied', 'failed'))
);
CREATE INDEX audit_entry_by_workspace ON audit_entry (workspace_id, id) WHERE workspace_id IS NOT NULL;
CREATE INDEX audit_entry_by_user ON audit_entry (user_id, id) WHERE user_id IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- === secrets ===

-- Sealed twice: the value by a key of its own, that key by the cluster's key of this id. Nothing here opens by itself.
CREATE TABLE secret (
    id           uuid PRIMARY KEY,
    -- The narrowest scope that is set; project_id always is.
    project_id   uuid NOT NULL REFERENCES project (id),
    workspace_id uuid REFERENCES workspace (id),
    -- By name: a secret may be there before its pipeline is deployed.
    pipeline     text NOT NULL DEFAULT '',
    name         text NOT NULL,
    -- Rises with each new value, and is part of what the seal binds.
    version      bigint NOT NULL CHECK (version > 0),
    key_id       text NOT NULL,
    wrapped_key  bytea NOT NULL,
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    updated_by   uuid REFERENCES user_account (id),
    CONSTRAINT secret_pipeline_needs_workspace CHECK (pipeline = '' OR workspace_id IS NOT NULL),
    CONSTRAINT secret_name CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,127}$')
);
CREATE UNIQUE INDEX secret_of_project ON secret (project_id, name) WHERE workspace_id IS NULL;
CREATE UNIQUE INDEX secret_of_workspace ON secret (workspace_id, pipeline, name) WHERE workspace_id IS NOT NULL;
CREATE INDEX secret_by_key ON secret (key_id, id);

-- === models ===

CREATE TABLE model (
    id           uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspace (id),
    name         text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    archived_at  timestamptz,
    CONSTRAINT model_name_unique UNIQUE (workspace_id, name),
    CONSTRAINT model_name_is_a_label CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')
);

CREATE TABLE model_version (
    id         uuid PRIMARY KEY,
    model_id   uuid NOT NULL REFERENCES model (id),
    file_name  text NOT NULL,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    sha256     text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by uuid REFERENCES user_account (id)
);
CREATE INDEX model_version_by_model ON model_version (model_id, id);

-- An upload that has not all arrived. Its parts lie in the store of blobs, each under its digest.
CREATE TABLE model_upload (
    id             uuid PRIMARY KEY,
    workspace_id   uuid NOT NULL REFERENCES workspace (id),
    name           text NOT NULL,
    file_name      text NOT NULL,
    size_bytes     bigint NOT NULL CHECK (size_bytes >= 0),
    sha256         text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    -- Bytes that are durable, and the digests of the parts that hold them, in order.
    received_bytes bigint NOT NULL DEFAULT 0,
    parts          text[] NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    created_by     uuid REFERENCES user_account (id),
    CONSTRAINT model_upload_received CHECK (received_bytes BETWEEN 0 AND size_bytes)
);
CREATE INDEX model_upload_by_age ON model_upload (updated_at);
