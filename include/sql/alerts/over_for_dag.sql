-- What is over because the DAG did its work: that of a batch's day heals that day, other work heals all before it.
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
