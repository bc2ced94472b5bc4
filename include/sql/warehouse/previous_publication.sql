-- A rollback goes on from the publication that it restored, so that a second one goes further back; and what was
-- rolled back before something newer was published is not gone back to. Another day than the one that is shown is
-- asked for by name: then its last publication, be it newer.
SELECT
    coalesce(earlier.restores, earlier.id) AS id,
    earlier.day,
    earlier.batch_id,
    earlier.dag_id,
    earlier.run_id
FROM warehouse.publication AS shown
INNER JOIN warehouse.publication AS earlier
    ON
        shown.object = earlier.object
        AND shown.batch_id <> earlier.batch_id
        AND (
            coalesce(shown.restores, shown.id) > earlier.id
            OR (earlier.day = %(day)s AND shown.day <> earlier.day)
        )
WHERE
    shown.object = %(object)s
    AND shown.is_current
    AND (shown.scope = 'object' OR shown.day = %(day)s)
    AND (%(day)s::date IS NULL OR earlier.day = %(day)s)
ORDER BY earlier.id DESC
LIMIT 1
