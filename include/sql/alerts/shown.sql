-- What readers see of a dataset's objects; one that was never published has no row.
SELECT
    object,
    max(day) FILTER (WHERE is_current) AS latest,
    coalesce(bool_or(is_current AND (day = %(day)s OR (scope = 'object' AND day > %(day)s))), false) AS arrived
FROM warehouse.publication
WHERE object = any(%(objects)s)
GROUP BY object
ORDER BY object
