WITH offender AS (
    SELECT
        row_data,
        array_agg(DISTINCT rule) AS rules
    FROM ({broken}) AS broken
    GROUP BY row_data
),

moved AS (
    DELETE FROM {table} AS staged
    USING offender
    WHERE staged.batch_id = {batch_id} AND to_jsonb(staged.*) = offender.row_data
    RETURNING offender.row_data, offender.rules
)

INSERT INTO quality.quarantine (checkpoint, staging_table, day, batch_id, dag_id, run_id, row_data, rules)
SELECT
    {checkpoint},
    {staging_table},
    {day},
    {batch_id},
    {dag_id},
    {run_id},
    row_data,
    rules
FROM moved
