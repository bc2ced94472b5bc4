-- One statement: a retry replaces what an earlier try of the run wrote, unless it was published since.
WITH earlier_try AS (
    DELETE FROM daily_operations_snapshots.{{ params.view }}
    WHERE batch_id = (SELECT warehouse.unpublished(%(batch_id)s))
)
INSERT INTO daily_operations_snapshots.{{ params.view }}
SELECT
    %(batch_id)s::uuid AS batch_id,
    now() AS loaded_at,
    query.*
FROM (
{% include params.view ~ '.sql' %}
) AS query
