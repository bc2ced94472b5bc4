INSERT INTO quality.validation (
    checkpoint, suite, staging_table, day, batch_id, dag_id, run_id, started_at, seconds,
    verdict, highest_severity, rows_checked, rows_quarantined
)
VALUES (
    %(checkpoint)s, %(suite)s, %(staging_table)s, %(day)s, %(batch_id)s, %(dag_id)s, %(run_id)s, %(started_at)s,
    %(seconds)s, %(verdict)s, %(highest_severity)s, %(rows_checked)s, %(rows_quarantined)s
)
RETURNING id
