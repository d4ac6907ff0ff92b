CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(n record, o record, leaf pg_catalog.oid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER 
AS $pgshovel$
BEGIN
  IF "pgshovel:default".as_known('16400'::pg_catalog.regclass, '16999'::pg_catalog.regclass, ARRAY['id 23 -1', 'balance 23 -1']::pg_catalog.text[], true)
    AND pg_catalog.pg_stat_get_xact_tuples_updated(leaf) OPERATOR(pg_catalog.>) 0
    AND pg_catalog.pg_typeof(n)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
    AND pg_catalog.pg_typeof(o)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
    AND pg_catalog.pg_partition_root(leaf)::pg_catalog.oid OPERATOR(pg_catalog.=) '16400'::pg_catalog.oid
  THEN
    INSERT INTO "pgshovel:default"."bank" (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    SELECT CURRENT_TIMESTAMP, 'U', pg_catalog.row_to_json(n)::pg_catalog.text, pg_catalog.row_to_json(o)::pg_catalog.text, 'public.accounts', '0123456789abcdef', 'j1';
  ELSE
    PERFORM "pgshovel:default".altered('U', 'bank', 'public.accounts', '0123456789abcdef', '16400', '16402', leaf, NULL, '{1}', n, o);
  END IF;
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record, oid) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record, oid) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record, oid) IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:t"() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgshovel$
BEGIN
  PERFORM "pgshovel:default".truncated('bank', 'public.accounts', '0123456789abcdef');
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:t"() TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:t"() OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:t"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."bank:b"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgshovel$
BEGIN
  INSERT INTO "pgshovel_default".truncating (transaction, "set", key) VALUES (pg_current_xact_id(), 'bank', TG_ARGV[0]);
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel:default"."bank:b"() FROM PUBLIC;
ALTER FUNCTION "pgshovel:default"."bank:b"() OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."bank:b"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgshovel$
BEGIN
  PERFORM "pgshovel:default".truncated_partition('bank', 'public.accounts', '0123456789abcdef', '16400', TG_RELID, NULL, '{1}');
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"() FROM PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"() OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:p"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."bank:q"(key text, leaf pg_catalog.regclass) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $pgshovel$
BEGIN
  PERFORM "pgshovel:default".emptied_partition('bank', key, leaf::pg_catalog.text);
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."bank:q"(text, regclass) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."bank:q"(text, regclass) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."bank:q"(text, regclass) IS 'pgshovel: captures changes for the set bank';
CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(o record, leaf pg_catalog.oid) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER 
AS $pgshovel$
BEGIN
  IF "pgshovel:default".as_known('16400'::pg_catalog.regclass, '16999'::pg_catalog.regclass, ARRAY['id 23 -1', 'balance 23 -1']::pg_catalog.text[], true)
    AND pg_catalog.pg_stat_get_xact_tuples_deleted(leaf) OPERATOR(pg_catalog.>) 0
    AND pg_catalog.pg_typeof(o)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
    AND "pgshovel:default".is_below(leaf, '16400')
  THEN
    INSERT INTO "pgshovel:default"."bank" (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    SELECT CURRENT_TIMESTAMP, 'D', NULL, pg_catalog.row_to_json(o)::pg_catalog.text, 'public.accounts', '0123456789abcdef', 'j1';
  ELSE
    PERFORM "pgshovel:default".altered('D', 'bank', 'public.accounts', '0123456789abcdef', '16400', '16402', leaf, NULL, '{1}', NULL, o);
  END IF;
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record, oid) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record, oid) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record, oid) IS 'pgshovel: captures changes for the set bank';
