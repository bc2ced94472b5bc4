WITH earlier_try AS (
    DELETE FROM {{ staging }}
    WHERE batch_id = %(batch_id)s
)

INSERT INTO {{ staging }}
SELECT
    %(batch_id)s::uuid AS batch_id,
    now() AS loaded_at,
    query.*
FROM (
    {% include query %}
) AS query
