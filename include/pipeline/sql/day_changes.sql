-- How the batch differs from what readers see of the day. Whole rows are compared by their bytes, since not every type
-- can be compared by value.
WITH old_rows AS (
    SELECT {column_names}
    FROM {published}
    WHERE {day_column} = %(day)s
),

new_rows AS (
    SELECT {column_names}
    FROM {staging}
    WHERE batch_id = %(batch_id)s AND {day_column} = %(day)s
),

differences AS (
    SELECT
        to_jsonb(old_rows) AS before,
        to_jsonb(new_rows) AS after
    FROM old_rows
    FULL JOIN new_rows USING ({key}) -- noqa: ST07
    WHERE
        old_rows.{day_column} IS NULL
        OR new_rows.{day_column} IS NULL
        OR record_image_ne(old_rows, new_rows)
)

SELECT
    jsonb_build_object(
        'added', count(*) FILTER (WHERE before IS NULL),
        'removed', count(*) FILTER (WHERE after IS NULL),
        'altered', count(before || after),
        'sample', (
            SELECT jsonb_agg(sampled)
            FROM (SELECT * FROM differences ORDER BY before IS NULL, after IS NULL LIMIT 5) AS sampled
        )
    ) AS changes
FROM differences
