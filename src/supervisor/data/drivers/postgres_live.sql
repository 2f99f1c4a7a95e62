-- What can be changed of a database LIVE from within another one: each with the statement that makes it
-- as it is, and the one that takes it away.
WITH live AS (
    SELECT *, format('DATABASE %I', datname) AS it FROM pg_database WHERE datname = LIVE
), traits(trait, made, taken) AS (
    SELECT t.* FROM live, LATERAL (VALUES
        ('its owner', format('ALTER %s OWNER TO %I', it, pg_get_userbyid(datdba)), ''),
        ('its connection limit', format('ALTER %s CONNECTION LIMIT %s', it, datconnlimit), ''),
        ('that it is a template', format('ALTER %s IS_TEMPLATE %s', it, datistemplate), ''),
        ('whether it lets clients in', format('ALTER %s ALLOW_CONNECTIONS %s', it, datallowconn), ''),
        ('its comment', format('COMMENT ON %s IS %L', it, shobj_description(oid, 'pg_database')), '')) t
    UNION ALL SELECT format('the right %s of %s on it', privilege_type, who),
        format('GRANT %s ON %s TO %s%s', privilege_type, it, who,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END),
        format('REVOKE %s ON %s FROM %s', privilege_type, it, who)
    FROM live, aclexplode(coalesce(datacl, acldefault('d', datdba))), LATERAL (SELECT CASE grantee WHEN 0
        THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END) w(who)
    UNION ALL SELECT concat('the setting ', name, ' of ' || role),
        format('ALTER %s%s SET %I TO %s', 'ROLE ' || role || ' IN ', it, name,
            -- These are lists of names, which are quoted already.
            CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
                'session_preload_libraries')
                THEN regexp_replace(value, '(^|, )""(?=,|$)', '\1''''', 'g')
                ELSE quote_literal(value) END),
        format('ALTER %s%s RESET %I', 'ROLE ' || role || ' IN ', it, name)
    FROM live JOIN pg_db_role_setting ON setdatabase = live.oid, unnest(setconfig) line,
        split_part(line, '=', 1) name, substr(line, length(name) + 2) value,
        LATERAL (SELECT CASE WHEN setrole <> 0 THEN quote_ident(pg_get_userbyid(setrole)) END) w(role)
)
SELECT concat_ws(chr(31), trait, made, taken) FROM traits ORDER BY trait COLLATE "C";
