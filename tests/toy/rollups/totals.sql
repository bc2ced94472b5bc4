SELECT
    day,
    sum(amount) AS total
FROM rollups.source
WHERE day = %(as_of)s
GROUP BY day
