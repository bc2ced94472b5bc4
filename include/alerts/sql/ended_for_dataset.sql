-- What ended because readers see the day, or a later one if they see only one; a closed gate needs a new publication.
SELECT
    incident.id,
    incident.subject,
    incident.kind,
    incident.day
FROM quality.incident
WHERE
    incident.closed_at IS NULL
    AND incident.subject = %(name)s
    AND incident.kind IN ('gate', 'late')
    AND NOT EXISTS (
        SELECT 1
        FROM unnest(%(objects)s::text[]) AS published (object)
        WHERE NOT EXISTS (
            SELECT 1
            FROM warehouse.publication
            WHERE
                publication.object = published.object
                AND publication.is_current
                AND (
                    publication.day = incident.day
                    OR (publication.scope = 'object' AND publication.day > incident.day)
                )
                AND (
                    incident.kind = 'late'
                    OR (publication.restores IS NULL AND publication.published_at > incident.opened_at)
                )
        )
    )
ORDER BY incident.id
