CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:i"(n record) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER 
AS $pgshovel$
BEGIN
  IF "pgshovel:default".as_known('16400'::pg_catalog.regclass, '16999'::pg_catalog.regclass, ARRAY['id 23 -1', 'balance 23 -1']::pg_catalog.text[], true)
    AND pg_catalog.pg_stat_get_xact_tuples_inserted('16400'::pg_catalog.oid) OPERATOR(pg_catalog.>) 0
    AND pg_catalog.pg_typeof(n)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
  THEN
    INSERT INTO "pgshovel:default"."bank" (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    SELECT CURRENT_TIMESTAMP, 'I', pg_catalog.row_to_json(n)::pg_catalog.text, NULL, 'public.accounts', '0123456789abcdef', 'j1';
  ELSE
    PERFORM "pgshovel:default".altered('I', 'bank', 'public.accounts', '0123456789abcdef', '16400', '16402', NULL, NULL, '{1}', n, NULL);
  END IF;
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:i"(record) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:i"(record) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:i"(record) IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(n record, o record) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER 
AS $pgshovel$
BEGIN
  IF "pgshovel:default".as_known('16400'::pg_catalog.regclass, '16999'::pg_catalog.regclass, ARRAY['id 23 -1', 'balance 23 -1']::pg_catalog.text[], true)
    AND pg_catalog.pg_stat_get_xact_tuples_updated('16400'::pg_catalog.oid) OPERATOR(pg_catalog.>) 0
    AND pg_catalog.pg_typeof(n)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
    AND pg_catalog.pg_typeof(o)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
  THEN
    INSERT INTO "pgshovel:default"."bank" (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    SELECT CURRENT_TIMESTAMP, 'U', pg_catalog.row_to_json(n)::pg_catalog.text, pg_catalog.row_to_json(o)::pg_catalog.text, 'public.accounts', '0123456789abcdef', 'j1';
  ELSE
    PERFORM "pgshovel:default".altered('U', 'bank', 'public.accounts', '0123456789abcdef', '16400', '16402', NULL, NULL, '{1}', n, o);
  END IF;
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:u"(record, record) IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(o record) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER 
AS $pgshovel$
BEGIN
  IF "pgshovel:default".as_known('16400'::pg_catalog.regclass, '16999'::pg_catalog.regclass, ARRAY['id 23 -1', 'balance 23 -1']::pg_catalog.text[], true)
    AND pg_catalog.pg_stat_get_xact_tuples_deleted('16400'::pg_catalog.oid) OPERATOR(pg_catalog.>) 0
    AND pg_catalog.pg_typeof(o)::pg_catalog.oid OPERATOR(pg_catalog.=) '16402'::pg_catalog.oid
  THEN
    INSERT INTO "pgshovel:default"."bank" (ev_time, ev_type, ev_data, ev_extra2, ev_extra1, ev_extra3, ev_extra4)
    SELECT CURRENT_TIMESTAMP, 'D', NULL, pg_catalog.row_to_json(o)::pg_catalog.text, 'public.accounts', '0123456789abcdef', 'j1';
  ELSE
    PERFORM "pgshovel:default".altered('D', 'bank', 'public.accounts', '0123456789abcdef', '16400', '16402', NULL, NULL, '{1}', NULL, o);
  END IF;
  RETURN false;
END
$pgshovel$;
GRANT EXECUTE ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record) TO PUBLIC;
ALTER FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record) OWNER TO "pgshovel:default";
COMMENT ON FUNCTION "pgshovel:default"."accounts#3a81fca3fe97a6df:d"(record) IS 'pgshovel: captures changes for the set bank';
