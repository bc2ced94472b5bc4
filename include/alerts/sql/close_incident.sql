UPDATE quality.incident
SET closed_at = now()
WHERE id = %s AND closed_at IS NULL
RETURNING closed_at - opened_at
