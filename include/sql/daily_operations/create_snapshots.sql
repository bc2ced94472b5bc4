CREATE TABLE {table} AS
SELECT
    null::uuid AS batch_id,
    null::timestamptz AS loaded_at,
    query.*
FROM (
    {query}
) AS query WITH NO DATA;

COMMENT ON TABLE {table} IS 'What each run''s query gave, by batch; readers see the published one.';
CREATE INDEX ON {table} (batch_id);
GRANT SELECT, INSERT, DELETE ON {table} TO airlock_app;
