-- No constraints: the gate must be able to see, and to report, what is wrong with a batch.
CREATE TABLE {table} AS
SELECT
    null::uuid AS batch_id,
    null::timestamptz AS loaded_at,
    source.*
FROM (
    {query}
) AS source WITH NO DATA;

ALTER TABLE {table} ALTER COLUMN batch_id SET NOT NULL, ALTER COLUMN loaded_at SET NOT NULL;
ALTER TABLE {table} ALTER COLUMN loaded_at SET DEFAULT now();
COMMENT ON TABLE {table} IS 'Batches that wait for their gate, and published ones that a rollback may need.';
-- A batch's rows lie together, and its id begins with its day. So an index of what each 32 pages hold finds them, and
-- loading a row costs next to nothing, while in a B-tree it would cost as much as in the table.
CREATE INDEX ON {table} USING brin (batch_id) WITH (pages_per_range = 32, autosummarize = on);
