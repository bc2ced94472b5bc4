-- Of each day its latest run: all suites that ran together.
SELECT validation.id
FROM unnest(%(days)s::date []) AS looked_at (day)
CROSS JOIN LATERAL (
    SELECT
        started_at,
        batch_id
    FROM quality.validation
    WHERE checkpoint = %(checkpoint)s AND day = looked_at.day
    ORDER BY id DESC
    LIMIT 1
) AS latest
INNER JOIN quality.validation
    ON latest.started_at = validation.started_at AND latest.batch_id = validation.batch_id
WHERE validation.checkpoint = %(checkpoint)s
