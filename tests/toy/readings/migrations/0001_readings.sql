CREATE TABLE readings.measured (
    day date NOT NULL,
    sensor text NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (day, sensor)
);
