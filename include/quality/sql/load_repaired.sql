-- Rows of this day that were quarantined and repaired since: they replace what the source still says.
WITH repaired AS (
    SELECT DISTINCT ON ({original_key})
        quarantined.id,
        {originals},
        repaired.*
    FROM quality.quarantine AS quarantined
    CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, quarantined.row_data) AS original
    CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, quarantined.repaired) AS repaired
    WHERE
        quarantined.staging_table = %(staging_table)s
        AND quarantined.day = %(day)s
        AND quarantined.repaired IS NOT NULL
    ORDER BY {original_key}, quarantined.id DESC
),

loaded AS (
    UPDATE {table} AS staged
    SET {assignments}
    FROM repaired
    WHERE staged.batch_id = %(batch_id)s AND {same_row}
    RETURNING repaired.id
)

UPDATE quality.quarantine
SET returned_in = %(batch_id)s
WHERE id IN (SELECT loaded.id FROM loaded)
