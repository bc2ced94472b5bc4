-- What the gate found in a batch when it ran last, per table or view.
SELECT
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
