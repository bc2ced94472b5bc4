-- The suites that a gate runs together have one start time; one of them that failed is enough.
SELECT 1
FROM quality.validation
WHERE
    dag_id = %(dag_id)s
    AND run_id = %(run_id)s
    AND verdict = 'failed'
    AND started_at = (
        SELECT max(latest.started_at)
        FROM quality.validation AS latest
        WHERE latest.dag_id = %(dag_id)s AND latest.run_id = %(run_id)s
    )
LIMIT 1 -- noqa: AM09
