-- What readers see of each object: its last day, and when that was published.
SELECT
    latest.day,
    latest.published_at
FROM unnest(%(objects)s::text[]) AS wanted (object)
INNER JOIN LATERAL (
    SELECT
        publication.day,
        publication.published_at
    FROM warehouse.publication
    WHERE publication.object = wanted.object AND publication.is_current
    ORDER BY publication.day DESC
    LIMIT 1
) AS latest ON true
ORDER BY latest.day, latest.published_at
