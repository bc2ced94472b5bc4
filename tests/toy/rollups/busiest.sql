SELECT
    sensor,
    amount
FROM rollups.source
WHERE day = %(as_of)s AND amount > 0
ORDER BY amount DESC
LIMIT 3
