-- A rollback continues from the publication that it restored, so a second rollback goes further back. What was rolled
-- back before something newer was published is not restored. A day other than the current one is asked for by name:
-- then its last publication is the one, even if it is newer.
SELECT
    coalesce(earlier.restores, earlier.id) AS id,
    earlier.day,
    earlier.batch_id,
    earlier.dag_id,
    earlier.run_id
FROM warehouse.publication AS latest
INNER JOIN warehouse.publication AS earlier
    ON
        latest.object = earlier.object
        AND latest.batch_id <> earlier.batch_id
        AND (
            coalesce(latest.restores, latest.id) > earlier.id
            OR (earlier.day = %(day)s AND latest.day <> earlier.day)
        )
WHERE
    latest.object = %(object)s
    AND latest.is_current
    AND (latest.scope = 'object' OR latest.day = %(day)s)
    AND (%(day)s::date IS NULL OR earlier.day = %(day)s)
ORDER BY earlier.id DESC
LIMIT 1
