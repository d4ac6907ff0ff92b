CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:b"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
BEGIN
  PERFORM set_config('pgshovel.truncating', coalesce(current_setting('pgshovel.truncating', true), '') || '
public.accounts
', true);
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:b"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:b"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_columns text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert INTO pgshovel_slot, pgshovel_disabled FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF strpos(current_setting('pgshovel.truncating', true), '
public.accounts
') > 0 THEN RETURN NULL; END IF;
  pgshovel_columns := '"pgshovel:row".*';
  EXECUTE 'INSERT INTO pgq.event_7_' || pgshovel_slot::text || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval(''pgq.event_7_id_seq''), now(), e.kind, e.new, ''public.accounts'', e.old, ''0123456789abcdef'', ''j1'' FROM (SELECT ''D'' AS kind, NULL::text AS new, row_to_json("pgshovel:row")::text AS old FROM (SELECT ' || pgshovel_columns || ' FROM ONLY ' || TG_RELID::regclass::text || ' AS "pgshovel:row") AS "pgshovel:row") AS e';
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C'
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_columns text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert INTO pgshovel_slot, pgshovel_disabled FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF strpos(current_setting('pgshovel.truncating', true), '
public.accounts
') > 0 THEN RETURN NULL; END IF;
  SELECT string_agg(format(
      CASE WHEN a.attname = ANY (ARRAY['id']::name[]) OR a.attname <> ALL (ARRAY['tags', 'yes']::name[]) AND t.typtype IN ('b', 'e') AND t.typcategory <> 'A'
        THEN '%1$s.%2$I' ELSE '%1$s.%2$I::text AS %2$I' END, '"pgshovel:row"', a.attname), ', ' ORDER BY a.attnum)
    INTO pgshovel_columns FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (ARRAY['id']::name[] || ARRAY['tags', 'yes']::name[]);
  IF pgshovel_columns IS NULL THEN RETURN NULL; END IF;
  EXECUTE 'INSERT INTO pgq.event_7_' || pgshovel_slot::text || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval(''pgq.event_7_id_seq''), now(), e.kind, e.new, ''public.accounts'', e.old, ''0123456789abcdef'', ''j1'' FROM (SELECT ''D'' AS kind, NULL::text AS new, row_to_json("pgshovel:row")::text AS old FROM (SELECT ' || pgshovel_columns || ' FROM ONLY ' || TG_RELID::regclass::text || ' AS "pgshovel:row") AS "pgshovel:row") AS e';
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() IS 'pgshovel: captures changes for the set bank';
