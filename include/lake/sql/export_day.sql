SELECT * -- noqa: AM04
FROM {source}
WHERE {day_column} = {day}
ORDER BY {key}
