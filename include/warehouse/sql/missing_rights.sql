-- What a migration does and this role may not: create the roles, set their passwords, revoke rights on the database.
SELECT
    current_user AS admin,
    'create roles: ALTER ROLE ... CREATEROLE' AS missing
FROM pg_roles
WHERE rolname = current_user AND NOT (rolsuper OR rolcreaterole)

UNION ALL

SELECT
    current_user AS admin,
    format('alter the role %%1$s, which another role created: GRANT %%1$I TO ... WITH ADMIN OPTION', rolname) AS missing
FROM pg_roles
WHERE rolname = any(%(roles)s) AND NOT pg_has_role(rolname, 'MEMBER WITH ADMIN OPTION')

UNION ALL

SELECT
    current_user AS admin,
    format('own the database: ALTER DATABASE %%I OWNER TO ...', datname) AS missing
FROM pg_database
WHERE datname = current_database() AND NOT pg_has_role(datdba, 'USAGE')
