-- What readers see of each object: its last day, and when that was published.
SELECT
    shown.day,
    shown.published_at
FROM unnest(%(objects)s::text[]) AS wanted (object)
INNER JOIN LATERAL (
    SELECT
        publication.day,
        publication.published_at
    FROM warehouse.publication
    WHERE publication.object = wanted.object AND publication.is_current
    ORDER BY publication.day DESC
    LIMIT 1
) AS shown ON true
ORDER BY shown.day, shown.published_at
