-- What a trend shows of the results: not the texts and samples, which are long.
SELECT
    validation_id,
    expectation,
    type,
    column_name,
    jsonb_build_object('min_value', arguments -> 'min_value', 'max_value', arguments -> 'max_value') AS arguments,
    severity,
    verdict,
    observed_number,
    checked,
    unexpected
FROM quality.expectation_result
WHERE validation_id = any(%(ids)s)
ORDER BY validation_id, position
