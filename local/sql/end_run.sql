-- In Airflow's metadata: a run and its unfinished tasks get the states that Airflow's UI gives them when a person
-- marks a run as failed or as a success.
WITH ended_run AS (
    UPDATE dag_run
    SET state = %(state)s, end_date = now(), updated_at = now()
    WHERE dag_id = %(dag_id)s AND run_id = %(run_id)s
)

UPDATE task_instance
SET
    state = CASE
        WHEN state IN ('running', 'deferred', 'up_for_reschedule', 'awaiting_input') THEN %(state)s
        ELSE 'skipped'
    END,
    start_date = coalesce(start_date, now()),
    end_date = now(),
    duration = extract(EPOCH FROM now() - coalesce(start_date, now())),
    updated_at = now()
WHERE
    dag_id = %(dag_id)s
    AND run_id = %(run_id)s
    AND (state IS NULL OR state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))
