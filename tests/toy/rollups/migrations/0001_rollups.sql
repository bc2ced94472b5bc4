CREATE TABLE rollups.source (
    day date NOT NULL,
    sensor text NOT NULL,
    amount integer NOT NULL,
    PRIMARY KEY (day, sensor)
);
GRANT SELECT ON rollups.source TO airlock_app;
