-- What ended because the DAG succeeded: a run for a batch ends its own day, other runs end all days up to theirs.
SELECT
    id,
    subject,
    kind,
    day
FROM quality.incident
WHERE
    closed_at IS NULL
    AND kind = 'task'
    AND starts_with(subject, %(dag_id)s || '.')
    AND (day = %(day)s OR (NOT %(of_batch)s AND day < %(day)s))
ORDER BY id
