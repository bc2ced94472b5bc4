WITH kept_out AS (
    DELETE FROM quality.quarantine
    WHERE batch_id = %(batch_id)s AND staging_table = %(staging_table)s AND repaired IS NULL
    RETURNING row_data, quarantined_at
)

INSERT INTO {table}
SELECT (jsonb_populate_record(NULL::{table}, kept_out.row_data)).*
FROM kept_out
WHERE
    kept_out.quarantined_at > coalesce(
        (SELECT max(staged.loaded_at) FROM {table} AS staged WHERE staged.batch_id = %(batch_id)s), '-infinity'
    )
