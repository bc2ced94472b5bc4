-- One step in the index a checkpoint, however many validations each of them has.
WITH RECURSIVE found AS (
    SELECT min(checkpoint) AS checkpoint
    FROM quality.validation

    UNION ALL

    SELECT (SELECT min(validation.checkpoint) FROM quality.validation WHERE validation.checkpoint > found.checkpoint)
    FROM found
    WHERE found.checkpoint IS NOT NULL
)

SELECT checkpoint
FROM found
WHERE checkpoint IS NOT NULL
