-- Statements that make a database TARGET like LIVE: step 0 makes it, the others give it what pg_dump
-- leaves out.
WITH live AS (
    SELECT d.*, to_jsonb(d) AS all_of, quote_ident(pg_get_userbyid(datdba)) AS owner,
        TARGET AS target
    FROM pg_database d WHERE datname = LIVE
), parts AS (
    SELECT 0 AS step, concat_ws(' ', 'CREATE DATABASE', target, 'TEMPLATE', quote_ident(TEMPLATE),
        CASE WHEN pg_has_role(datdba, 'USAGE') AND pg_has_role(datdba, CASE WHEN
            current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
            THEN 'OWNER ' || owner END,
        'ENCODING', quote_literal(pg_encoding_to_char(encoding)),
        'LC_COLLATE', quote_literal(datcollate), 'LC_CTYPE', quote_literal(datctype),
        CASE all_of->>'datlocprovider'
            WHEN 'c' THEN 'LOCALE_PROVIDER libc'
            WHEN 'i' THEN 'LOCALE_PROVIDER icu ICU_LOCALE '
                || quote_literal(coalesce(all_of->>'datlocale', all_of->>'daticulocale'))
                || coalesce(' ICU_RULES ' || quote_literal(all_of->>'daticurules'), '')
            WHEN 'b' THEN 'LOCALE_PROVIDER builtin BUILTIN_LOCALE '
                || quote_literal(all_of->>'datlocale')
        END,
        CASE WHEN has_tablespace_privilege(dattablespace, 'CREATE')
            THEN (SELECT 'TABLESPACE ' || quote_ident(spcname) FROM pg_tablespace WHERE oid =
                dattablespace AND spcname <> 'pg_default') END) AS statement
    FROM live
    UNION ALL SELECT 1, concat('REVOKE ALL ON DATABASE ', target, ' FROM PUBLIC, ', owner)
    FROM live WHERE datacl IS NOT NULL
    UNION ALL SELECT 2, concat('GRANT ', privilege_type, ' ON DATABASE ', target, ' TO ',
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM live, aclexplode(datacl)
    UNION ALL SELECT 3, concat('COMMENT ON DATABASE ', target, ' IS ', quote_literal(said))
    FROM live, shobj_description(oid, 'pg_database') said WHERE said IS NOT NULL
    UNION ALL SELECT 4, concat('ALTER DATABASE ', target, ' CONNECTION LIMIT ', datconnlimit)
    FROM live WHERE datconnlimit <> -1
    UNION ALL SELECT 5, concat('ALTER DATABASE ', target, ' IS_TEMPLATE true')
    FROM live WHERE datistemplate
    UNION ALL SELECT 6, concat('ALTER ',
        CASE WHEN setrole <> 0 THEN format('ROLE %I IN ', pg_get_userbyid(setrole)) END,
        'DATABASE ', target, ' SET ', quote_ident(name), ' TO ',
        -- These are lists of names, which are quoted already.
        CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
            'session_preload_libraries', 'shared_preload_libraries', 'unix_socket_directories')
            THEN regexp_replace(value, '(^|, )""(?=,|$)', '\1''''', 'g')
            ELSE quote_literal(value) END)
    FROM live JOIN pg_db_role_setting ON setdatabase = live.oid, unnest(setconfig) line,
        split_part(line, '=', 1) name, substr(line, length(name) + 2) value
)
SELECT statement || ';' FROM parts WHERE (step > 0) = IS_MADE ORDER BY step, statement COLLATE "C"
