SELECT
    activity.pid,
    activity.usename,
    activity.application_name,
    to_char(activity.query_start, 'YYYY-MM-DD HH24:MI:SS "UTC"') AS started
FROM unnest(pg_blocking_pids(%s)) AS blocking (pid)
INNER JOIN pg_stat_activity AS activity ON blocking.pid = activity.pid
