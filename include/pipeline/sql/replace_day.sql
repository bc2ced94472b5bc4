DELETE FROM {published}
WHERE {day_column} = %(day)s;

INSERT INTO {published} ({column_names})
SELECT {column_names}
FROM {staging}
WHERE batch_id = %(batch_id)s AND {day_column} = %(day)s;
