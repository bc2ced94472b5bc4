SELECT
    latest.object,
    latest.changes
FROM (
    SELECT DISTINCT ON (object)
        object,
        changes
    FROM warehouse.publication
    WHERE batch_id = %(batch_id)s
    ORDER BY object ASC, id DESC
) AS latest
WHERE latest.changes IS NOT NULL
ORDER BY latest.object
