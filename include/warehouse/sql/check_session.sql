-- The settings are those that also count between transactions, and in one that has failed: a session is not ended while
-- its task does something else. What may remain of them on a proxy's connection to the server harms nobody.
SELECT
    pg_catalog.current_setting('server_encoding') = 'UTF8' AS encoded,
    pg_catalog.pg_is_in_recovery() AS standby,
    pg_catalog.current_setting('session_replication_role') = 'replica' AS replica,
    pg_catalog.set_config('idle_session_timeout', '0', false) AS idle_session_timeout,
    pg_catalog.set_config('idle_in_transaction_session_timeout', '10min', false) AS idle_in_transaction_timeout,
    pg_catalog.set_config('exit_on_error', 'off', false) AS exit_on_error
