-- Roles belong to the whole server: another database of it may have made them already.
DO $$
BEGIN
    CREATE ROLE airlock_app LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

DO $$
BEGIN
    CREATE ROLE airlock_reader LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

CREATE SCHEMA market;
CREATE SCHEMA market_staging;

-- What readers see: only what passed its gate.
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
COMMENT ON TABLE market.transformed_market_data IS 'One row a ticker and XNYS session; published by the market DAGs.';
COMMENT ON COLUMN market.transformed_market_data.change IS 'close_price minus open_price, in USD';
COMMENT ON COLUMN market.transformed_market_data.volume IS 'shares traded in the session; can be fractional';

-- Where batches wait for their gate. No constraints: the gate shall see, and tell, what is wrong with them.
CREATE TABLE market_staging.transformed_market_data (
    batch_id uuid NOT NULL,
    market_date date,
    ticker text,
    open_price double precision,
    high_price double precision,
    low_price double precision,
    close_price double precision,
    change double precision,
    volume double precision,
    loaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON market_staging.transformed_market_data (batch_id);

GRANT USAGE ON SCHEMA market, market_staging TO airlock_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA market, market_staging TO airlock_app;
GRANT USAGE ON SCHEMA market TO airlock_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA market TO airlock_reader;
