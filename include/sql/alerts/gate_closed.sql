-- Of the suites that a gate runs together, which start at one time, one is enough.
SELECT 1
FROM quality.validation
WHERE
    dag_id = %(dag_id)s
    AND run_id = %(run_id)s
    AND verdict = 'failed'
    AND started_at = (
        SELECT max(started_at)
        FROM quality.validation
        WHERE dag_id = %(dag_id)s AND run_id = %(run_id)s
    )
LIMIT 1
