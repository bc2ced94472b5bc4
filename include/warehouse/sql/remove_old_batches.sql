-- Keeps the newest published batches, and what was loaded after the oldest of them was published: runs in progress.
WITH kept AS (
    SELECT
        batch_id,
        max(published_at) AS published_at
    FROM warehouse.publication
    WHERE object = %(object)s AND (scope = 'object' OR day = %(day)s)
    GROUP BY batch_id
    ORDER BY max(id) DESC
    LIMIT %(keep)s
),

oldest AS (
    SELECT min(published_at) AS published_at
    FROM kept
    HAVING count(*) = %(keep)s
)

DELETE FROM {staging_table} AS batch
USING oldest
WHERE
    {of_the_day}
    AND batch.loaded_at < oldest.published_at
    AND batch.batch_id NOT IN (SELECT kept.batch_id FROM kept)
