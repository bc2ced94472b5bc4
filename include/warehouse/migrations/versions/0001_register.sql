-- Roles belong to the whole server: another database of it may have created them already.
DO $$
BEGIN
    CREATE ROLE airlock_app LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

DO $$
BEGIN
    CREATE ROLE airlock_reader LOGIN CONNECTION LIMIT 50; -- of 100 in a deployment: the others are for the DAGs
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

-- What readers see, and what they saw before. Written in the transaction that publishes.
CREATE TABLE warehouse.publication (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('day', 'object')),
    day date NOT NULL,
    batch_id uuid NOT NULL,
    dag_id text NOT NULL,
    run_id text NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    is_current boolean NOT NULL DEFAULT true,
    restores bigint REFERENCES warehouse.publication (id)
);
COMMENT ON TABLE warehouse.publication IS 'One row per publication of a table''s day or of a view, rollbacks included.';
COMMENT ON COLUMN warehouse.publication.object IS 'the published table or view, with its schema';
COMMENT ON COLUMN warehouse.publication.scope IS
'day: each day of the object has a publication of its own; object: the whole object shows one publication';
COMMENT ON COLUMN warehouse.publication.batch_id IS 'the batch in the staging table that readers got';
COMMENT ON COLUMN warehouse.publication.run_id IS 'with dag_id: the Airflow run that published';
COMMENT ON COLUMN warehouse.publication.restores IS 'of a rollback: the publication that it restored';

-- What is current is unambiguous, whatever the code does.
CREATE UNIQUE INDEX publication_current_day ON warehouse.publication (object, day) WHERE is_current;
CREATE UNIQUE INDEX publication_current_object ON warehouse.publication (object)
WHERE is_current AND scope = 'object';
-- The history of an object, newest last.
CREATE INDEX publication_history ON warehouse.publication (object, day, id);

CREATE INDEX publication_batch ON warehouse.publication (batch_id);

-- What was published is never written again: the views show it, and a rollback may go back to it. Whoever writes a
-- batch claims it first, in a statement of its own, so that the next one sees what an earlier claimant committed.
CREATE FUNCTION warehouse.claim_batch(staging_table text, batch uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    claimed text := staging_table || '/' || batch;
BEGIN
    INSERT INTO warehouse.lock (name) VALUES (claimed);
    DELETE FROM warehouse.lock WHERE name = claimed;
    IF EXISTS (SELECT 1 FROM warehouse.publication WHERE batch_id = batch) THEN
        RAISE EXCEPTION 'Batch % was published and stays as it is; clear the run from its start task on', batch;
    END IF;
END $$;

REVOKE ALL ON FUNCTION warehouse.claim_batch FROM public;
GRANT EXECUTE ON FUNCTION warehouse.claim_batch TO airlock_app;

GRANT USAGE ON SCHEMA warehouse TO airlock_app, airlock_reader;
-- (The linter cannot parse a grant that begins like this on a schema of this name.)
GRANT SELECT, INSERT, UPDATE (is_current) ON warehouse.publication TO airlock_app; -- noqa: PRS
GRANT SELECT ON warehouse.publication TO airlock_reader;
-- The names of locks, in which no row stays (include/warehouse/register.py). Readers can neither take nor see one.
GRANT SELECT, INSERT, DELETE ON warehouse.lock TO airlock_app; -- noqa: PRS

-- By default everybody who can log in to the server may connect to each of its databases, and create temporary tables.
DO $$
BEGIN
    EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM public', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO airlock_app, airlock_reader', current_database());
    IF to_regnamespace('public') IS NOT NULL THEN -- in a database of Postgres 14 or older, everybody may create there
        REVOKE CREATE ON SCHEMA public FROM public;
    END IF;
END $$;
