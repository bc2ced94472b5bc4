SELECT
    staging_table,
    row_data,
    rules,
    count(*) OVER () AS of_batch
FROM quality.quarantine
WHERE batch_id = %(batch_id)s AND checkpoint = %(checkpoint)s
ORDER BY id
LIMIT %(limit)s
