-- What a database is like beside the contents that a dump of it brings back: a trait a line, its name
-- and a digest of its value, which may be a secret.
WITH here AS (
    SELECT d.*, to_jsonb(d) AS all_of FROM pg_database d WHERE datname = current_database()
), theirs AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), owners AS (
    SELECT 'tables' AS what, relowner AS owner FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND oid >= 16384
        AND relpersistence <> 't' AND ('pg_class'::regclass, oid) NOT IN (TABLE theirs)
    UNION SELECT 'schemas', nspowner FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        AND ('pg_namespace'::regclass, oid) NOT IN (TABLE theirs)
    UNION SELECT 'functions', proowner FROM pg_proc
    WHERE oid >= 16384 AND ('pg_proc'::regclass, oid) NOT IN (TABLE theirs)
    UNION SELECT 'types', typowner FROM pg_type
    WHERE oid >= 16384 AND typtype IN ('e', 'd') AND ('pg_type'::regclass, oid) NOT IN (TABLE theirs)
    UNION SELECT 'large objects', lomowner FROM pg_largeobject_metadata
), traits(trait, value) AS (
    SELECT t.* FROM here, LATERAL (VALUES
        ('its owner', pg_get_userbyid(datdba)::text),
        ('its encoding', pg_encoding_to_char(encoding)::text),
        ('its locale', concat_ws(' ', all_of->>'datlocprovider', datcollate, datctype,
            coalesce(all_of->>'datlocale', all_of->>'daticulocale'), all_of->>'daticurules')),
        ('its tablespace', (SELECT spcname::text FROM pg_tablespace WHERE oid = dattablespace)),
        ('its connection limit', datconnlimit::text),
        ('that it is a template', datistemplate::text),
        ('its comment', shobj_description(oid, 'pg_database'))) t
    UNION ALL SELECT format('the right %s of %s on it', privilege_type,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END),
        concat('by ', pg_get_userbyid(grantor), CASE WHEN is_grantable THEN ', grantable' END)
    FROM here, aclexplode(coalesce(datacl, acldefault('d', datdba)))
    UNION ALL SELECT concat('the setting ', name,
        CASE WHEN setrole <> 0 THEN ' of role ' || pg_get_userbyid(setrole) END),
        substr(line, length(name) + 2)
    FROM here JOIN pg_db_role_setting ON setdatabase = here.oid, unnest(setconfig) line,
        split_part(line, '=', 1) name
    UNION ALL SELECT 'the security label of ' || provider, label
    FROM here JOIN pg_shseclabel ON objoid = here.oid AND classoid = 'pg_database'::regclass
    UNION ALL SELECT 'the version of extension ' || extname, extversion FROM pg_extension
    UNION ALL SELECT 'the event trigger ' || evtname, evtenabled::text FROM pg_event_trigger
    UNION ALL SELECT 'the publication ' || pubname, pubname FROM pg_publication
    UNION ALL SELECT 'the subscription ' || subname, subname
    FROM here JOIN pg_subscription ON subdbid = here.oid
    UNION ALL SELECT format('the default rights that %s gives (%s, %s)',
        pg_get_userbyid(defaclrole), defaclobjtype, nspname), defaclacl::text
    FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
    UNION ALL SELECT format('the role %s as owner of %s', pg_get_userbyid(owner), what), '-'
    FROM owners
)
SELECT trait || E'\t' || md5(value) FROM traits
WHERE value IS NOT NULL ORDER BY trait COLLATE "C";
