DELETE FROM {published}
WHERE {day_column} = %(day)s;

-- In the order of the key, since its index takes sorted rows much faster.
INSERT INTO {published} ({column_names})
SELECT {column_names}
FROM {staging}
WHERE batch_id = %(batch_id)s AND {day_column} = %(day)s
ORDER BY {key};
