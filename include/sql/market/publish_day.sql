DELETE FROM market.transformed_market_data
WHERE market_date = %(market_date)s;

INSERT INTO market.transformed_market_data
(market_date, ticker, open_price, high_price, low_price, close_price, change, volume)
SELECT
    market_date,
    ticker,
    open_price,
    high_price,
    low_price,
    close_price,
    change,
    volume
FROM market_staging.transformed_market_data
WHERE batch_id = %(batch_id)s AND market_date = %(market_date)s;
