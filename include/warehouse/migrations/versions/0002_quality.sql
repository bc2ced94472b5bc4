-- What the gates found. docs/quality.md documents it for dashboards of your own.
CREATE SCHEMA quality;

CREATE TABLE quality.validation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checkpoint text NOT NULL,
    suite text NOT NULL,
    staging_table text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    dag_id text NOT NULL,
    run_id text NOT NULL,
    started_at timestamptz NOT NULL,
    seconds double precision NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('passed', 'warned', 'quarantined', 'failed')),
    highest_severity text CHECK (highest_severity IN ('critical', 'warning', 'info')),
    rows_checked bigint NOT NULL,
    rows_quarantined bigint NOT NULL
);
COMMENT ON TABLE quality.validation IS 'One row per suite that a gate ran on a batch, whatever the verdict.';
COMMENT ON COLUMN quality.validation.checkpoint IS 'the dataset; its suites run together';
COMMENT ON COLUMN quality.validation.staging_table IS 'the table that held the batch';
COMMENT ON COLUMN quality.validation.seconds IS 'of the whole checkpoint';
COMMENT ON COLUMN quality.validation.highest_severity IS 'of the expectations that failed; null when none did';
CREATE INDEX validation_day ON quality.validation (checkpoint, day, id);
CREATE INDEX validation_run ON quality.validation (checkpoint, started_at, batch_id);
CREATE INDEX validation_started ON quality.validation (started_at);
CREATE INDEX validation_batch ON quality.validation (batch_id);

CREATE TABLE quality.expectation_result (
    validation_id bigint NOT NULL REFERENCES quality.validation (id) ON DELETE CASCADE,
    position smallint NOT NULL,
    expectation text NOT NULL,
    type text NOT NULL,
    column_name text,
    arguments jsonb NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'warning', 'info')),
    verdict text NOT NULL CHECK (verdict IN ('passed', 'quarantined', 'failed')),
    observed text NOT NULL,
    observed_number double precision,
    checked bigint,
    unexpected bigint,
    sample jsonb NOT NULL,
    PRIMARY KEY (validation_id, position)
);
COMMENT ON TABLE quality.expectation_result IS 'One row per expectation of a validation.';
COMMENT ON COLUMN quality.expectation_result.expectation IS 'in plain words, the description in the suite';
COMMENT ON COLUMN quality.expectation_result.observed_number IS 'what was observed, if it is a number: for trends';
COMMENT ON COLUMN quality.expectation_result.unexpected IS 'rows that failed it, of those that were checked';
COMMENT ON COLUMN quality.expectation_result.sample IS 'up to ten of those rows';

CREATE TABLE quality.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checkpoint text NOT NULL,
    staging_table text NOT NULL,
    day date NOT NULL,
    batch_id uuid NOT NULL,
    dag_id text NOT NULL,
    run_id text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    row_data jsonb NOT NULL,
    rules text[] NOT NULL,
    repaired jsonb CHECK (jsonb_typeof(repaired) = 'object'),
    returned_in uuid
);
COMMENT ON TABLE quality.quarantine IS 'Rows that were kept out of a batch while its other rows were published.';
COMMENT ON COLUMN quality.quarantine.row_data IS 'the row as it was staged';
COMMENT ON COLUMN quality.quarantine.rules IS 'the expectations that it broke';
COMMENT ON COLUMN quality.quarantine.repaired IS
'the row as it should be; the next run of the day uses it instead';
COMMENT ON COLUMN quality.quarantine.returned_in IS 'the batch that got the repaired row';
CREATE INDEX quarantine_batch ON quality.quarantine (batch_id);
CREATE INDEX quarantine_day ON quality.quarantine (staging_table, day);

CREATE TABLE quality.incident (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('gate', 'task', 'late')),
    day date NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    message text NOT NULL
);
COMMENT ON TABLE quality.incident IS 'What was reported, once, and when it ended.';
CREATE UNIQUE INDEX incident_open ON quality.incident (subject, kind, day) WHERE closed_at IS NULL;

GRANT USAGE ON SCHEMA quality TO airlock_app, airlock_reader;
GRANT SELECT, INSERT, DELETE ON quality.validation, quality.quarantine TO airlock_app;
GRANT SELECT, INSERT ON quality.expectation_result TO airlock_app; -- they are deleted with their validation
GRANT UPDATE (repaired, returned_in) ON quality.quarantine TO airlock_app;
GRANT SELECT, INSERT, UPDATE (closed_at) ON quality.incident TO airlock_app;
GRANT SELECT ON ALL TABLES IN SCHEMA quality TO airlock_reader;
