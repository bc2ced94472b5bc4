INSERT INTO quality.incident (subject, kind, day, message)
SELECT
    %(subject)s AS subject,
    %(kind)s AS kind,
    %(day)s AS day,
    %(message)s AS message
WHERE
    -- A day that is missing because its gate closed was reported already.
    %(kind)s <> 'late'
    OR NOT EXISTS (
        SELECT 1
        FROM quality.incident
        WHERE subject = %(subject)s AND kind = 'gate' AND day = %(day)s AND closed_at IS NULL
    )
ON CONFLICT (subject, kind, day) WHERE closed_at IS NULL DO NOTHING
RETURNING id
