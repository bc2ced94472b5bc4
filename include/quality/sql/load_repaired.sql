-- Rows of this day that were quarantined and repaired since: they replace what the source still says. A column that a
-- repair does not name keeps its value.
WITH repaired AS (
    SELECT DISTINCT ON ({original_key})
        quarantined.id AS quarantined_row, -- not id: the table may have a column of that name
        {originals},
        repaired.*
    FROM quality.quarantine AS quarantined
    CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, quarantined.row_data) AS original
    CROSS JOIN LATERAL jsonb_populate_record(original.*, quarantined.repaired) AS repaired
    WHERE
        quarantined.staging_table = %(staging_table)s
        AND quarantined.day = %(day)s
        AND quarantined.repaired IS NOT NULL
    ORDER BY {original_key} ASC, quarantined.id DESC
),

loaded AS (
    UPDATE {table} AS staged
    SET {assignments}
    FROM repaired
    WHERE staged.batch_id = %(batch_id)s AND {same_row}
    RETURNING repaired.quarantined_row
),

noted AS (
    UPDATE quality.quarantine
    SET returned_in = %(batch_id)s
    WHERE id IN (SELECT loaded.quarantined_row FROM loaded)
)

SELECT
    (SELECT count(*) FROM repaired) AS repairs,
    (SELECT count(*) FROM loaded) AS replaced,
    (SELECT count(DISTINCT quarantined_row) FROM loaded) AS used
