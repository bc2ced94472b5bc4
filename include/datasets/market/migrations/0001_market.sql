-- What readers see: only what passed its gate. The platform creates the schema, the staging table and the grants.
CREATE TABLE market.transformed_market_data (
    market_date date NOT NULL,
    ticker text NOT NULL,
    open_price double precision NOT NULL,
    high_price double precision NOT NULL,
    low_price double precision NOT NULL,
    close_price double precision NOT NULL,
    change double precision NOT NULL,
    volume double precision NOT NULL,
    PRIMARY KEY (market_date, ticker)
);
COMMENT ON TABLE market.transformed_market_data IS 'One row per ticker and XNYS session; published by the market DAGs.';
COMMENT ON COLUMN market.transformed_market_data.change IS 'close_price minus open_price, in USD';
COMMENT ON COLUMN market.transformed_market_data.volume IS 'shares traded in the session; can be fractional';
