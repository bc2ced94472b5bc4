WITH earlier_try AS (
    DELETE FROM daily_operations_snapshots.{{ view }}
    WHERE batch_id = %(batch_id)s
)

INSERT INTO daily_operations_snapshots.{{ view }}
SELECT
    %(batch_id)s::uuid AS batch_id,
    now() AS loaded_at,
    query.*
FROM (
    {% include 'daily_operations/' ~ view ~ '.sql' %}
) AS query
