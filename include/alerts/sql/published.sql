-- What readers see of the objects of a dataset; an object that was never published has no row.
SELECT
    object,
    max(day) FILTER (WHERE is_current) AS latest,
    coalesce(bool_or(is_current AND (day = %(day)s OR (scope = 'object' AND day > %(day)s))), false) AS arrived
FROM warehouse.publication
WHERE object = any(%(objects)s)
GROUP BY object
ORDER BY object
