SELECT
    id,
    checkpoint,
    suite,
    staging_table,
    day,
    batch_id,
    dag_id,
    run_id,
    started_at,
    seconds,
    verdict,
    rows_checked,
    rows_quarantined
FROM quality.validation
WHERE id = any(%(ids)s)
ORDER BY id
