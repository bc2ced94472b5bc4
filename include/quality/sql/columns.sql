-- The columns of tables in their order, which jsonb does not keep.
SELECT attribute.attname AS name
FROM unnest(%(tables)s::text[]) AS wanted (name)
INNER JOIN pg_namespace AS namespace ON namespace.nspname = split_part(wanted.name, '.', 1)
INNER JOIN pg_class AS relation
    ON namespace.oid = relation.relnamespace AND relation.relname = split_part(wanted.name, '.', 2)
INNER JOIN pg_attribute AS attribute ON relation.oid = attribute.attrelid
WHERE attribute.attnum > 0 AND NOT attribute.attisdropped
ORDER BY wanted.name, attribute.attnum
