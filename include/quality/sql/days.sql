-- Of each day its latest run: all suites that ran together.
SELECT validation.id
FROM unnest(%(days)s::date[]) AS looked_at (day)
INNER JOIN LATERAL (
    SELECT
        validation.started_at,
        validation.batch_id
    FROM quality.validation
    WHERE validation.checkpoint = %(checkpoint)s AND validation.day = looked_at.day
    ORDER BY validation.id DESC
    LIMIT 1
) AS latest ON true
INNER JOIN quality.validation
    ON latest.started_at = validation.started_at AND latest.batch_id = validation.batch_id
WHERE validation.checkpoint = %(checkpoint)s
