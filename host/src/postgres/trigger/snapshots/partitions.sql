CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:b"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C' SET quote_all_identifiers = off
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
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C' SET quote_all_identifiers = off
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_as_known boolean;
  pgshovel_columns text;
  pgshovel_format text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert, true INTO pgshovel_slot, pgshovel_disabled, pgshovel_as_known FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN
    IF to_regclass('pgq.event_7_0') IS NULL THEN RETURN NULL; END IF;
    pgshovel_slot := 0;
    pgshovel_as_known := false;
  END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF strpos(current_setting('pgshovel.truncating', true), '
public.accounts
') > 0 THEN RETURN NULL; END IF;
  SELECT coalesce(string_agg(format(CASE WHEN e.json THEN '%1$s.%2$I' ELSE 'CASE WHEN %1$s.%2$I IS DISTINCT FROM NULL THEN format(''%%s'', %1$s.%2$I) END AS %2$I' END, '"pgshovel:row"', a.attname), ', ' ORDER BY a.attnum), ''),
    'j1' || ' ' || json_build_object(
      'columns', json_agg(json_build_object('name', a.attname, 'type', a.type, 'oid', a.atttypid::int8, 'encoding', CASE WHEN e.json THEN 'json' ELSE 'text' END) ORDER BY a.attnum),
      'identity', (SELECT json_agg(c.attname ORDER BY array_position(ARRAY[1]::int2[], c.attnum)) FROM "pgshovel_default".columns(16400) c WHERE c.attnum = ANY (ARRAY[1]::int2[])))
    INTO pgshovel_columns, pgshovel_format
    FROM "pgshovel_default".columns(TG_RELID) a LEFT JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL (SELECT coalesce(t.typtype = 'b' AND t.oid < 16384 AND t.typcategory <> 'A' AND t.oid NOT IN (114, 3802) OR t.typtype IN ('r', 'm') AND t.oid < 16384 OR t.typtype = 'e' AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = t.oid AND k.casttarget = 114), false) AS json) e;
  EXECUTE 'INSERT INTO pgq.event_7_' || pgshovel_slot::text || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval(''pgq.event_7_id_seq''), now(), e.kind, e.new, ''public.accounts'', e.old, ''0123456789abcdef'', $1 FROM (SELECT ''D'' AS kind, NULL::text AS new, row_to_json("pgshovel:row")::text AS old FROM (SELECT ' || pgshovel_columns || ' FROM ONLY ' || TG_RELID::regclass::text || ' AS "pgshovel:row") AS "pgshovel:row") AS e' USING pgshovel_format;
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() IS 'pgshovel: captures changes for the set bank';

CREATE OR REPLACE FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET "DateStyle" = 'ISO, YMD' SET "IntervalStyle" = postgres
SET bytea_output = hex SET "TimeZone" = 'UTC' SET lc_monetary = 'C' SET quote_all_identifiers = off
AS $pgshovel$
DECLARE
  pgshovel_slot integer;
  pgshovel_disabled boolean;
  pgshovel_as_known boolean;
  pgshovel_columns text;
  pgshovel_format text;
BEGIN
  SELECT q.queue_cur_table, q.queue_disable_insert, true INTO pgshovel_slot, pgshovel_disabled, pgshovel_as_known FROM pgq.queue q WHERE q.queue_id = 7;
  IF NOT FOUND THEN
    IF to_regclass('pgq.event_7_0') IS NULL THEN RETURN NULL; END IF;
    pgshovel_slot := 0;
    pgshovel_as_known := false;
  END IF;
  IF pgshovel_disabled THEN RAISE EXCEPTION 'inserts into the PgQ queue % are disabled', 'pgshovel:default:bank'; END IF;
  IF strpos(current_setting('pgshovel.truncating', true), '
public.accounts
') > 0 THEN RETURN NULL; END IF;
  SELECT coalesce(string_agg(format(CASE WHEN e.json THEN '%1$s.%2$I' ELSE 'CASE WHEN %1$s.%2$I IS DISTINCT FROM NULL THEN format(''%%s'', %1$s.%2$I) END AS %2$I' END, '"pgshovel:row"', a.attname), ', ' ORDER BY a.attnum), ''),
    'j1' || ' ' || json_build_object(
      'columns', json_agg(json_build_object('name', a.attname, 'type', a.type, 'oid', a.atttypid::int8, 'encoding', CASE WHEN e.json THEN 'json' ELSE 'text' END) ORDER BY a.attnum),
      'identity', (SELECT json_agg(c.attname ORDER BY array_position(ARRAY[1]::int2[], c.attnum)) FROM "pgshovel_default".columns(16400) c WHERE c.attnum = ANY (ARRAY[1]::int2[])))
    INTO pgshovel_columns, pgshovel_format
    FROM "pgshovel_default".columns(TG_RELID) a LEFT JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL (SELECT coalesce(t.typtype = 'b' AND t.oid < 16384 AND t.typcategory <> 'A' AND t.oid NOT IN (114, 3802) OR t.typtype IN ('r', 'm') AND t.oid < 16384 OR t.typtype = 'e' AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = t.oid AND k.casttarget = 114), false) AS json) e
    WHERE a.attname IN (SELECT c.attname FROM "pgshovel_default".columns(16400) c WHERE c.attnum = ANY (ARRAY[1, 3]::int2[]));
  EXECUTE 'INSERT INTO pgq.event_7_' || pgshovel_slot::text || ' (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
SELECT nextval(''pgq.event_7_id_seq''), now(), e.kind, e.new, ''public.accounts'', e.old, ''0123456789abcdef'', $1 FROM (SELECT ''D'' AS kind, NULL::text AS new, row_to_json("pgshovel:row")::text AS old FROM (SELECT ' || pgshovel_columns || ' FROM ONLY ' || TG_RELID::regclass::text || ' AS "pgshovel:row") AS "pgshovel:row") AS e' USING pgshovel_format;
  RETURN NULL;
END
$pgshovel$;
REVOKE ALL ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() FROM PUBLIC;
COMMENT ON FUNCTION "pgshovel_default"."accounts#3a81fca3fe97a6df:p"() IS 'pgshovel: captures changes for the set bank';
