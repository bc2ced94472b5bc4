-- All suites of the last run of a batch. A batch can be validated again: a task is cleared, a row was repaired.
SELECT
    id,
    staging_table,
    verdict,
    rows_checked - rows_quarantined AS rows
FROM quality.validation
WHERE
    checkpoint = %(checkpoint)s
    AND batch_id = %(batch_id)s
    AND started_at = (
        SELECT max(latest.started_at)
        FROM quality.validation AS latest
        WHERE latest.checkpoint = %(checkpoint)s AND latest.batch_id = %(batch_id)s
    )
ORDER BY id
