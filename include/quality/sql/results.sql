SELECT
    validation_id,
    expectation,
    type,
    column_name,
    arguments,
    severity,
    verdict,
    observed_number,
    checked,
    unexpected,
    observed,
    sample
FROM quality.expectation_result
WHERE validation_id = any(%(ids)s)
ORDER BY validation_id, position
