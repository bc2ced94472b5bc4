CREATE OR REPLACE VIEW {view} AS
SELECT {columns}
FROM {staging} AS staged
INNER JOIN warehouse.publication ON staged.batch_id = publication.batch_id
WHERE publication.object = {name} AND publication.is_current;
