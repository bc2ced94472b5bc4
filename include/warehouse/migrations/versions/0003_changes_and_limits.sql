ALTER TABLE warehouse.publication ADD COLUMN changes jsonb;
COMMENT ON COLUMN warehouse.publication.changes IS
'of a day that replaced a published one: how many rows were added, removed and altered, and up to five of them';

-- One row per service, with the times of the latest requests: those to come as well, while tasks wait for them.
CREATE TABLE warehouse.request_limit (
    service text PRIMARY KEY,
    turns timestamptz[] NOT NULL
);
COMMENT ON TABLE warehouse.request_limit IS 'When each source was asked last, so that its rate limit is kept.';

-- (The linter cannot parse a grant that begins like this on a schema of this name.)
GRANT SELECT, INSERT, UPDATE ON warehouse.request_limit TO airlock_app; -- noqa: PRS
