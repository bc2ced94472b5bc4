-- The suites that a gate runs together have one start time; one of them that failed is enough. Only what was reported
-- counts: a DAG that reports its gates at the end may not have come so far.
SELECT 1
FROM quality.validation
INNER JOIN quality.incident
    ON validation.checkpoint = incident.subject AND validation.day = incident.day AND incident.kind = 'gate'
WHERE
    validation.dag_id = %(dag_id)s
    AND validation.run_id = %(run_id)s
    AND validation.verdict = 'failed'
    AND incident.closed_at IS NULL
    AND validation.started_at = (
        SELECT max(latest.started_at)
        FROM quality.validation AS latest
        WHERE latest.dag_id = %(dag_id)s AND latest.run_id = %(run_id)s
    )
LIMIT 1 -- noqa: AM09
