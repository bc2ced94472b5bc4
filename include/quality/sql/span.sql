-- The first day that was ever validated, and the latest one that is not in the future, unless all are.
SELECT
    (SELECT min(day) FROM quality.validation WHERE checkpoint = %(checkpoint)s) AS first_day,
    coalesce(
        (SELECT max(day) FROM quality.validation WHERE checkpoint = %(checkpoint)s AND day <= %(today)s),
        (SELECT max(day) FROM quality.validation WHERE checkpoint = %(checkpoint)s)
    ) AS latest_day
