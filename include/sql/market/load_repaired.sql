-- Rows that were quarantined on this day and repaired since: in the place of what the market API still says.
WITH repaired AS (
    SELECT DISTINCT ON (staged.ticker)
        quarantined.id,
        staged.*
    FROM quality.quarantine AS quarantined
    CROSS JOIN
        LATERAL jsonb_populate_record(null::market_staging.transformed_market_data, quarantined.repaired) AS staged
    WHERE
        quarantined.asset = 'market_staging.transformed_market_data'
        AND quarantined.day = %(market_date)s
        AND quarantined.repaired IS NOT null
    ORDER BY staged.ticker ASC, quarantined.id DESC
),

loaded AS (
    UPDATE market_staging.transformed_market_data AS staged
    SET
        open_price = repaired.open_price,
        high_price = repaired.high_price,
        low_price = repaired.low_price,
        close_price = repaired.close_price,
        change = repaired.change,
        volume = repaired.volume
    FROM repaired
    WHERE staged.batch_id = %(batch_id)s AND staged.ticker = repaired.ticker
    RETURNING repaired.id
)

UPDATE quality.quarantine
SET returned_in = %(batch_id)s
WHERE id IN (SELECT loaded.id FROM loaded)
