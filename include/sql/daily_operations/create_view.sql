CREATE OR REPLACE VIEW {view} AS
SELECT {columns}
FROM {snapshots} AS snapshot
INNER JOIN warehouse.publication ON snapshot.batch_id = publication.batch_id
WHERE publication.object = {name} AND publication.is_current;

GRANT SELECT ON {view} TO airlock_app, airlock_reader;
