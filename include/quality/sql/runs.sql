-- The latest runs of a checkpoint: all suites that ran together.
SELECT validation.id
FROM (
    SELECT
        started_at,
        batch_id
    FROM quality.validation
    WHERE checkpoint = %(checkpoint)s
    GROUP BY started_at, batch_id
    ORDER BY started_at DESC, batch_id DESC
    LIMIT %(limit)s
) AS latest
INNER JOIN quality.validation
    ON latest.started_at = validation.started_at AND latest.batch_id = validation.batch_id
WHERE validation.checkpoint = %(checkpoint)s
