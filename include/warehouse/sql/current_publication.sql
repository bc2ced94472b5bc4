SELECT
    id,
    day,
    batch_id,
    dag_id,
    run_id
FROM warehouse.publication
WHERE object = %(object)s AND is_current AND (scope = 'object' OR day = %(day)s)
