UPDATE warehouse.publication
SET is_current = false
WHERE object = %(object)s AND is_current AND (scope = 'object' OR day = %(day)s);

INSERT INTO warehouse.publication (object, scope, day, batch_id, dag_id, run_id, restores, changes)
VALUES (%(object)s, %(scope)s, %(day)s, %(batch_id)s, %(dag_id)s, %(run_id)s, %(restores)s, %(changes)s);
