-- expand
-- What an edit of a trigger's schedule means to the schedule before. Written by web-servers only; the version before leaves them
-- as they are, so that to it an edit means what it always meant.

ALTER TABLE trigger
    -- The version that made its @once what it is: made, made again under the same name, or given another start. It comes
    -- a single time for each.
    ADD COLUMN once_version bigint NOT NULL DEFAULT 1,
    -- When its schedule took the place of another one; NULL while it has the one that it was made with.
    ADD COLUMN replaced_at  timestamptz,
    -- Since when it was paused when that happened; NULL where it was not.
    ADD COLUMN former_paused_at timestamptz;
